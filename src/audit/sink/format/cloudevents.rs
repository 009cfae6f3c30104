//! CloudEvents 1.0, JSON format. `data` is the journalled event, byte for byte.
//!
//! Pure. Context attributes hold nothing sensitive: intermediaries read them.

use super::super::{batch::Item, head::Head};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    datacontenttype: &'static str,
    /// Sorts as a text, too.
    sequence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recordedtime: Option<&'a str>,
    severitynumber: u64,
    severitytext: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authtype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chainuid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chainprev: Option<&'a str>,
    data: &'a RawValue,
}

/// One event.
pub(super) fn render(item: &Item, head: &Head) -> serde_json::Result<Vec<u8>> {
    let data: &RawValue = serde_json::from_slice(&item.native)?;
    let user = head.actor.as_ref().map(|actor| actor.uid.to_string());
    serde_json::to_vec(&CloudEvent {
        specversion: "1.0",
        id: item.id(),
        source: head.source.as_deref().filter(|source| !source.is_empty()).unwrap_or("urn:claviger"),
        r#type: &head.kind,
        // The name that the config gives it, never its path in Vault.
        subject: head.resource.as_ref().and_then(|resource| resource.secret.as_deref()),
        time: head.time.as_deref(),
        datacontenttype: "application/json",
        sequence: format!("{:020}", item.place.seq),
        recordedtime: head.recorded.as_deref(),
        severitynumber: head.severity,
        severitytext: head.severity_text(),
        authtype: user.as_ref().map(|_| "user"),
        authid: user,
        chainuid: head.chain.as_ref().map(|chain| chain.uid.as_str()),
        chainprev: head.chain.as_ref().map(|chain| chain.prev.as_str()),
        data,
    })
}
