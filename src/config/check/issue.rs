//! Rotations of the kind `issue`: what mints keys, and how its answers are read.
//!
//! Pure. Whether the provider does what it is told is found out when running.

use super::super::reader::{Leaf, Map};
use super::{
    Context,
    credentials::{Where, filled, probe, template},
};
use crate::{
    name::UpstreamName,
    rotation::{
        Kind,
        generate::{Generate, Source},
        issue::Issue,
        system::{http::Template, provider::Provider, template::places},
    },
};
use serde_json::Value;

pub(super) fn read(map: &mut Map<'_>, context: &Context<'_>) -> Option<Kind> {
    let path = map.need("path", "MOUNT/PATH, as in secret/vendor", super::vault_path);
    let field = map.or("field", "key".to_owned(), Leaf::text);
    let id_field = map.or("id_field", "key_id".to_owned(), Leaf::text);
    let cycles = map.or("max_retry_cycles", 3, |leaf| leaf.whole::<u32>(1..=3));
    let probe = probe(map);
    let provider =
        map.need("driver", "{http: {upstream: NAME, mint: {…}, list: {…}, delete: {…}}}", |leaf| {
            let mut map = leaf.map()?;
            let provider = map.need("http", "{upstream: NAME, mint: {…}}", |leaf| provider(leaf, context));
            map.finish();
            provider
        });
    let (field, id_field) = (field?, id_field?);
    if field == id_field {
        map.leaf().problem("one field for the key and its name", "write another field or id_field");
        return None;
    }
    // Values come from the provider: how others are made is never asked.
    let source = Source::Characters { length: 40, alphabet: String::new() };
    Some(Kind::Issue(Box::new(Issue {
        consumer: Generate { path: path?, field, source },
        id_field,
        provider: provider?,
        cycles: usize::try_from(cycles?).unwrap_or(1),
        probe: probe?,
    })))
}

fn provider(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Provider> {
    let mut map = leaf.map()?;
    let upstream = map.need("upstream", "the name of one of upstreams", |leaf| {
        leaf.refers(&context.upstreams, UpstreamName::new)
    });
    let label = map.or("label", "claviger-{rotation}-{id}".to_owned(), |leaf| {
        let label = filled(leaf, leaf.text()?, Where::Path)?;
        if !places(&label).is_some_and(|places| places.contains(&"id")) {
            leaf.problem(
                "a label without {id}: keys of two runs could not be told apart",
                "put {id} into it",
            );
            return None;
        }
        Some(label)
    });
    let mint =
        map.need("mint", "{method: POST, path: /keys, body: {name: \"claviger-{rotation}-{id}\"}}", template);
    let minted = map.need("minted", "{id: /id, value: /secret}", |leaf| pointers(leaf, ["id", "value"]));
    let list = map.need("list", "{path: /keys}", template);
    let items = map.or("items", String::new(), pointer);
    let item = map.need("item", "{id: /id, label: /name}", |leaf| pointers(leaf, ["id", "label"]));
    let delete = map.need("delete", "{method: DELETE, path: \"/keys/{key}\"}", |leaf| {
        let template = template(leaf)?;
        if !template.path.contains("{key}") {
            leaf.problem("a delete that does not say which key", "put {key} into its path");
            return None;
        }
        Some(template)
    });
    let test = map.need("test", "{path: /me, headers: {Authorization: \"Bearer {value}\"}}", template);
    map.finish();
    let (label, mint) = (label?, mint?);
    if !says(&mint, &label) {
        leaf.problem(
            "a mint whose body does not have the label: a key that was lost could not be found",
            "write the text of label into a member of mint.body",
        );
        return None;
    }
    let ([minted_id, minted_value], [item_id, item_label]) = (minted?, item?);
    Some(Provider {
        upstream: upstream?,
        label,
        mint,
        minted_id,
        minted_value,
        list: list?,
        items: items?,
        item_id,
        item_label,
        delete: delete?,
        test: test?,
    })
}

/// Whether the body of `template` has the text `label` as a value.
fn says(template: &Template, label: &str) -> bool {
    fn has(json: &Value, label: &str) -> bool {
        match json {
            Value::String(text) => text == label,
            Value::Array(list) => list.iter().any(|item| has(item, label)),
            Value::Object(map) => map.values().any(|item| has(item, label)),
            _ => false,
        }
    }
    template.body.as_ref().is_some_and(|body| has(body, label))
}

fn pointers(leaf: &Leaf<'_>, keys: [&'static str; 2]) -> Option<[String; 2]> {
    let mut map = leaf.map()?;
    let [first, second] = keys.map(|key| map.need(key, "/NAME", pointer));
    map.finish();
    Some([first?, second?])
}

fn pointer(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    if !text.starts_with('/') {
        leaf.problem("not a JSON pointer", "write /NAME, or /NAME/NAME");
        return None;
    }
    Some(text)
}
