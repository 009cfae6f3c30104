//! What a client may know of the token that its requests are made with: all but the token, and what names it.
//!
//! `renew-self` and `revoke-self` change nothing: the token is kept alive, and ended, by us. Does not wrap its answers.

use super::{Answer, Error, Forward, json, says_unknown_token};
use crate::{
    name::IdentityName,
    policy::forward::Own,
    vault::error::{Class, Error as VaultError},
};
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What of a look-up is shown. Whatever else Vault may add one day is not.
const SHOWN: &[&str] = &[
    "bound_cidrs",
    "creation_time",
    "creation_ttl",
    "display_name",
    "entity_id",
    "expire_time",
    "explicit_max_ttl",
    "external_namespace_policies",
    "identity_policies",
    "issue_time",
    "last_renewal",
    "last_renewal_time",
    "namespace_path",
    "num_uses",
    "orphan",
    "path",
    "period",
    "policies",
    "renewable",
    "role",
    "ttl",
    "type",
];

#[derive(Deserialize)]
struct LookedUp {
    data: Map<String, Value>,
}

pub(super) async fn answer(forward: &Forward, identity: &IdentityName, own: Own) -> Result<Answer, Error> {
    if own == Own::Revoke {
        return Ok(Answer::plain(204, HeaderMap::new(), Bytes::new()));
    }
    let session = forward.session(identity, None).await?;
    let reply = forward.vault.look_up(&session).await.map_err(Error::Vault)?;
    if reply.status != 200 {
        let refused = Answer::plain(reply.status, HeaderMap::new(), reply.into_bytes());
        if says_unknown_token(&refused) {
            forward.doubt(identity, &session);
        }
        return Ok(refused);
    }
    let nonsense = |_| Error::Vault(VaultError::new(Class::Nonsense, "looking up the token", "no look-up"));
    let LookedUp { data } = serde_json::from_slice(&reply.body).map_err(nonsense)?;
    Ok(json(200, &shown(own, data)))
}

/// The answer to `own`, from what Vault says of the token.
fn shown(own: Own, mut data: Map<String, Value>) -> Value {
    data.retain(|name, _| SHOWN.contains(&name.as_str()));
    match own {
        Own::LookUp => serde_json::json!({
            "request_id": "", "lease_id": "", "lease_duration": 0, "renewable": false, "data": data,
            "wrap_info": null, "warnings": null, "auth": null,
        }),
        Own::Renew | Own::Revoke | Own::Lease | Own::Child | Own::Control(_) => {
            let of = |name: &str| data.get(name).cloned().unwrap_or(Value::Null);
            serde_json::json!({
                "request_id": "", "lease_id": "", "lease_duration": 0, "renewable": false, "data": null,
                "wrap_info": null, "warnings": null,
                "auth": {
                    "client_token": "", "accessor": "", "policies": of("policies"), "token_policies": of("policies"),
                    "metadata": null, "lease_duration": of("ttl"), "renewable": of("renewable"),
                    "entity_id": of("entity_id"), "token_type": of("type"), "orphan": of("orphan"),
                    "num_uses": of("num_uses"),
                },
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(own: Own, at: &str, expected: Value) {
        let data = serde_json::json!({
            "id": "hvs.SECRET", "accessor": "ACCESSOR", "ttl": 590, "policies": ["reports"], "renewable": true,
            "meta": {"role": "hvs.SECRET"}, "new_field": "hvs.SECRET", "display_name": "approle",
        });
        let Value::Object(data) = data else { panic!("no object") };
        let shown = shown(own, data);
        assert_eq!(shown.pointer(at), Some(&expected), "{shown}");
        let text = shown.to_string();
        assert!(!text.contains("SECRET") && !text.contains("ACCESSOR"), "{text}");
    }

    #[test]
    fn a_look_up_tells_everything_but_what_the_token_is() {
        check(Own::LookUp, "/data/ttl", 590.into());
        check(Own::LookUp, "/data/policies/0", "reports".into());
        check(Own::LookUp, "/data/display_name", "approle".into());
        check(Own::Renew, "/auth/lease_duration", 590.into());
        check(Own::Renew, "/auth/client_token", "".into());
        check(Own::Renew, "/auth/renewable", true.into());
    }
}
