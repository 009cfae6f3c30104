//! Response wrapping: an answer put aside behind a token that opens it once.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ask::Ask;
use crate::outcome::{Outcome, Success};
use crate::state::State;

/// One wrapped answer.
#[derive(Debug)]
pub(crate) struct Wrap {
    pub(crate) content: Success,
    pub(crate) path: String,
    pub(crate) made: Instant,
    pub(crate) ttl: Duration,
    pub(crate) expires: Instant,
}

impl State {
    /// Puts an answer aside; gives the answer that goes out instead.
    pub(crate) fn wrap(&mut self, content: Success, path: &str, ttl: Duration) -> Success {
        let token = self.ids.service_token();
        let wrapped_accessor = content.auth.get("accessor").cloned();
        let mut info = json!({
            "token": token,
            "accessor": self.ids.accessor(),
            "ttl": ttl.as_secs(),
            "creation_time": self.clock.rfc3339(self.now),
            "creation_path": path,
        });
        if let (Some(accessor), Some(fields)) = (wrapped_accessor, info.as_object_mut()) {
            fields.insert("wrapped_accessor".into(), accessor);
        }
        let wrap = Wrap { content, path: path.to_string(), made: self.now, ttl, expires: self.now + ttl };
        self.wraps.insert(token, wrap);
        Success { wrap_info: info, ..Success::of(Value::Null) }
    }

    /// `sys/wrapping/*` after `wrapping/`; `caller` may be the wrapping token itself.
    pub(crate) fn wrapping_route(&mut self, tail: &str, ask: &Ask, caller: &str) -> Outcome {
        let token = ask.text("token").unwrap_or(caller).to_string();
        let absent = || Outcome::bad("wrapping token is not valid or does not exist");
        match tail {
            "lookup" if token.is_empty() => {
                Outcome::fail(403, &["error validating wrapping token: token is empty"])
            }
            "lookup" => match self.wraps.get(&token) {
                None => absent(),
                Some(wrap) => Outcome::data(json!({
                    "creation_path": wrap.path,
                    "creation_time": self.clock.rfc3339(wrap.made),
                    "creation_ttl": wrap.ttl.as_secs(),
                })),
            },
            "unwrap" => match self.wraps.remove(&token) {
                None => absent(),
                Some(wrap) => Outcome::secret(wrap.content),
            },
            "rewrap" => match self.wraps.remove(&token) {
                None => absent(),
                Some(wrap) => Outcome::secret(self.wrap(wrap.content, &wrap.path, wrap.ttl)),
            },
            "wrap" => match ask.wrap_ttl {
                None => Outcome::bad("endpoint requires response wrapping to be used"),
                Some(_) => Outcome::data(Value::Object(ask.body.clone())),
            },
            _ => Outcome::unsupported_path(),
        }
    }
}
