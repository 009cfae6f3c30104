//! Where in a text one of our values stands: in which variable, which argument, which line. Pure.
//!
//! Gives names and numbers, and nothing of the value: a name that holds one is masked.

use crate::{
    audit::event::visible,
    broker::scrub::{Form, Hits, Masks},
};

/// The longest name that is told, in characters.
const LONGEST: usize = 120;

/// One place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// The variable.
    pub(super) name: Option<String>,
    /// The argument (0 is what the program is called by), or the line, from 1.
    pub(super) number: Option<u64>,
    /// How it is spelled there.
    pub(super) form: Form,
}

/// The variables that hold it.
pub(super) fn in_environment(text: &[u8], masks: &Masks) -> Vec<Spot> {
    let variables = text.split(|byte| *byte == 0).filter_map(|variable| {
        let (form, found) = masks.find(variable)?;
        let name = variable.iter().position(|byte| *byte == b'=').and_then(|at| variable.get(..at));
        let name = name.filter(|name| name.len() <= found.start && !name.is_empty());
        let name =
            name.map_or_else(|| "without a name".to_owned(), |name| shown(name, std::iter::once(masks)));
        Some(Spot { name: Some(name), number: None, form })
    });
    variables.collect()
}

/// The arguments that hold it.
pub(super) fn in_arguments(text: &[u8], masks: &Masks) -> Vec<Spot> {
    let arguments = text.split(|byte| *byte == 0).zip(0..);
    let spot = |(argument, number)| {
        masks.find(argument).map(|(form, _)| Spot { name: None, number: Some(number), form })
    };
    arguments.filter_map(spot).collect()
}

/// The first line that holds it.
pub(super) fn in_file(text: &[u8], masks: &Masks) -> Vec<Spot> {
    let spot = masks.find(text).map(|(form, found)| {
        let before = text.get(..found.start).unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        Spot { name: None, number: u64::try_from(lines).ok().and_then(|lines| lines.checked_add(1)), form }
    });
    spot.into_iter().collect()
}

/// A name that somebody else gave, as it may be told.
pub(super) fn shown<'a>(name: &[u8], masks: impl Iterator<Item = &'a Masks>) -> String {
    let masked = masks.fold(name.to_vec(), |name, masks| {
        let masked = masks.mask(&name, &mut Hits::default());
        masked.unwrap_or(name)
    });
    let text: String = visible(&masked).chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    const VALUE: &str = "sk_live_0123456789";

    #[track_caller]
    fn check(found: &[Spot], expected: &[(Option<&str>, Option<u64>, &str)]) {
        let found: Vec<_> =
            found.iter().map(|spot| (spot.name.as_deref(), spot.number, spot.form.word())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_value_is_found_by_the_name_of_what_has_it_and_never_told() {
        let masks = Masks::of(&[VALUE.as_bytes()]);
        let base64 = BASE64_STANDARD.encode(format!("user:{VALUE}"));
        let environment = format!(
            "PATH=/bin\0KEY={VALUE}\0URL=https://x/?k={VALUE}&z\0AUTH=Basic {base64}\0HOME=/\0{VALUE}\0{VALUE}=x\0"
        );
        check(
            &in_environment(environment.as_bytes(), &masks),
            &[
                (Some("KEY"), None, "raw"),
                (Some("URL"), None, "raw"),
                (Some("AUTH"), None, "base64"),
                (Some("without a name"), None, "raw"),
                (Some("without a name"), None, "raw"),
            ],
        );
        let arguments = format!("curl\0-H\0Authorization: Bearer {VALUE}\0https://x/\0");
        check(&in_arguments(arguments.as_bytes(), &masks), &[(None, Some(2), "raw")]);
        let file = format!("# a comment\nA=1\nKEY={VALUE}\nKEY2={VALUE}\n");
        check(&in_file(file.as_bytes(), &masks), &[(None, Some(3), "raw")]);
        for clean in ["", "KEY=sk_live_012345678\0X=1", &VALUE[1..]] {
            check(&in_environment(clean.as_bytes(), &masks), &[]);
            check(&in_file(clean.as_bytes(), &masks), &[]);
        }
        let name = format!("/srv/{VALUE}/\u{7}\n.env");
        let shown = shown(name.as_bytes(), std::iter::once(&masks));
        assert_eq!(shown, format!("/srv/{}/.env", "*".repeat(VALUE.len())));
    }
}
