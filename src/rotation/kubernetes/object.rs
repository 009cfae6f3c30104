//! A Lease as the API server has it, read and changed without losing what others wrote into it: labels, annotations, owners.
//!
//! Pure. The fields: <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/>.

use super::{super::lease::Terms, Settings};
use serde_json::{Value, json};
use std::time::Duration;

/// The longest that `holder_ttl` may be: what others say beyond it is not waited for.
const LONGEST: u64 = 600;

/// What a Lease says of its holder. Times are texts: they are compared, and never taken for times.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    /// None where nobody has it.
    pub(super) holder: Option<String>,
    acquired: Option<String>,
    renewed: Option<String>,
    /// How long the holder says that it may be silent, in seconds.
    seconds: u64,
    /// Counts the holders.
    pub(super) transitions: u64,
}

impl Record {
    /// Of an object; what it does not say is as in one that nobody ever had.
    pub(super) fn of(object: &Value) -> Self {
        let spec = |key: &str| object.get("spec").and_then(|spec| spec.get(key));
        let text = |key: &str| spec(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let number = |key: &str| spec(key).and_then(Value::as_u64).unwrap_or_default();
        Self {
            holder: text("holderIdentity").map(str::to_owned),
            acquired: text("acquireTime").map(str::to_owned),
            renewed: text("renewTime").map(str::to_owned),
            seconds: number("leaseDurationSeconds"),
            transitions: number("leaseTransitions"),
        }
    }

    /// How long after its last change it may be taken: by our terms, or by the holder's own if these are longer.
    pub(super) fn takeover(&self, ours: Terms) -> Duration {
        let theirs = Duration::from_secs(self.seconds.min(LONGEST));
        ours.takeover().max(Terms::of(theirs).takeover())
    }
}

/// One that `holder` has, as the `epoch`-th; made of what was `found`, or new.
pub(super) fn taken(
    found: Option<Value>,
    settings: &Settings,
    (holder, epoch): (&str, u64),
    terms: Terms,
    now: &str,
) -> Value {
    let object = found.unwrap_or_else(|| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"namespace": settings.namespace, "name": settings.lease},
        })
    });
    let seconds = u64::try_from(terms.ttl.as_millis().div_ceil(1000)).unwrap_or(LONGEST).max(1);
    let transitions = i32::try_from(epoch).unwrap_or(i32::MAX);
    let said = [
        ("holderIdentity", json!(holder)),
        ("acquireTime", json!(now)),
        ("renewTime", json!(now)),
        ("leaseDurationSeconds", json!(seconds)),
        ("leaseTransitions", json!(transitions)),
    ];
    with(object, said)
}

/// The same, renewed.
pub(super) fn renewed(object: Value, now: &str) -> Value {
    with(object, [("renewTime", json!(now))])
}

/// The same, which nobody has.
pub(super) fn given_back(object: Value, now: &str) -> Value {
    with(object, [("holderIdentity", json!("")), ("renewTime", json!(now))])
}

/// The same, to be made again after somebody deleted it.
pub(super) fn anew(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["resourceVersion", "uid", "creationTimestamp", "managedFields"] {
            metadata.remove(key);
        }
    }
    object
}

/// The spec may be absent, where it was never written.
fn with<const N: usize>(mut object: Value, said: [(&str, Value); N]) -> Value {
    let mut spec = object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    spec.extend(said.map(|(key, value)| (key.to_owned(), value)));
    if let Some(object) = object.as_object_mut() {
        object.insert("spec".to_owned(), Value::Object(spec));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { ttl: Duration::from_millis(29_500), call: Duration::from_secs(10) };

    fn settings() -> Settings {
        Settings {
            namespace: "team-a".into(),
            lease: "rot-webhook".into(),
            server: "https://kubernetes.default.svc".parse().unwrap(),
            ca_file: "/ca".into(),
            token_file: "/token".into(),
        }
    }

    #[test]
    fn a_lease_is_made_taken_and_given_back_and_what_others_wrote_in_it_stays() {
        let made = taken(None, &settings(), ("pod-a/1", 1), TERMS, "t1");
        assert_eq!(
            made,
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"namespace": "team-a", "name": "rot-webhook"},
                "spec": {"holderIdentity": "pod-a/1", "acquireTime": "t1", "renewTime": "t1",
                         "leaseDurationSeconds": 30, "leaseTransitions": 1},
            })
        );
        let mut found = given_back(renewed(made, "t2"), "t3");
        assert_eq!(Record::of(&found).holder, None);
        found["metadata"] =
            json!({"name": "rot-webhook", "labels": {"of": "helm"}, "resourceVersion": "7", "uid": "u"});
        found["spec"]["strategy"] = json!("OldestEmulationVersion");
        let again = taken(Some(found), &settings(), ("pod-b/1", 2), TERMS, "t4");
        assert_eq!(again["metadata"]["labels"]["of"], "helm");
        assert_eq!(
            (&again["metadata"]["resourceVersion"], &again["spec"]["strategy"]),
            (&json!("7"), &json!("OldestEmulationVersion"))
        );
        assert_eq!(
            (Record::of(&again).holder.as_deref(), Record::of(&again).transitions),
            (Some("pod-b/1"), 2)
        );
        assert_eq!(anew(again)["metadata"], json!({"name": "rot-webhook", "labels": {"of": "helm"}}));
    }

    #[test]
    fn one_that_was_never_taken_is_nobodys() {
        for object in
            [json!({}), json!({"spec": null}), json!({"spec": {}}), json!({"spec": {"holderIdentity": ""}})]
        {
            assert_eq!(Record::of(&object), Record::default(), "{object}");
            let taken = taken(Some(object), &settings(), ("a", 1), TERMS, "t");
            assert_eq!(taken["spec"]["holderIdentity"], "a");
        }
    }

    #[test]
    fn whoever_says_that_it_may_be_silent_for_longer_is_waited_for_longer() {
        let check = |seconds: u64, expected: f64| {
            let record = Record { seconds, ..Record::default() };
            assert_eq!(record.takeover(TERMS).as_secs_f64(), expected, "{seconds}");
        };
        check(3, 39.5);
        check(60, 70.0);
        check(1_000_000, 610.0);
    }
}
