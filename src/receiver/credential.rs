//! What proves to a receiver who we are, read from its file each time it is used: a file that changes needs no reload.
//!
//! Does not keep it, and does not send it.

use crate::{
    crypto::{hex, hmac_sha256},
    secret::SecretValue,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use std::{fs::File, io::Read as _, path::Path};
use zeroize::Zeroizing;

/// A credential file's cap, in bytes.
const LARGEST: u64 = 64 * 1024;

/// A token or key of a receiver.
pub struct Credential(SecretValue);

impl Credential {
    /// Reads `file`; spaces and line ends around it do not count.
    ///
    /// # Errors
    /// What is wrong with the file, and its name; nothing of what is in it.
    pub fn read(file: &Path) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("reading {}: {why}", file.display());
        let mut text = Zeroizing::new(String::new());
        let open = File::open(file).map_err(|error| failed(&error))?;
        open.take(LARGEST).read_to_string(&mut text).map_err(|error| failed(&error))?;
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.len() as u64 + 1 >= LARGEST {
            return Err(failed(&"it is empty or larger than 64 KiB"));
        }
        Ok(Self(SecretValue::new(trimmed.to_owned())))
    }

    /// `SCHEME TOKEN`, which no log shows.
    ///
    /// # Errors
    /// The token holds what no header can.
    pub fn header(&self, scheme: &str) -> Result<HeaderValue, String> {
        let text = Zeroizing::new(format!("{scheme} {}", self.0.expose()));
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| "a token that no header can hold".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// `t=SECONDS,v1=HEX`: HMAC-SHA256 over the seconds, a full stop, and the body.
    #[must_use]
    pub fn signature(&self, seconds: i64, body: &[u8]) -> String {
        let time = seconds.to_string();
        let tag = hmac_sha256(self.0.expose().as_bytes(), &[time.as_bytes(), b".", body]);
        format!("t={time},v1={}", hex(&tag))
    }

    /// `v1,BASE64` as Standard Webhooks has it (specification 1.0, "Signature scheme"): HMAC-SHA256 over the message's id, the seconds
    /// and the body, with full stops between them; the key is base64 behind `whsec_`.
    ///
    /// # Errors
    /// It is no such key of 24 to 64 bytes.
    pub fn standard_signature(&self, id: &str, seconds: i64, body: &[u8]) -> Result<String, String> {
        let text = self.0.expose();
        let key = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).map(Zeroizing::new);
        let key = key.ok().filter(|key| (24..=64).contains(&key.len()));
        let key = key.ok_or("a key that is not whsec_ and base64 of 24 to 64 bytes")?;
        let time = seconds.to_string();
        let parts = [id.as_bytes(), b".", time.as_bytes(), b".", body];
        Ok(format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &parts))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_trimmed_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "hunter2\n").unwrap();
        let value = Credential::read(&file).unwrap().header("Bearer").unwrap();
        assert_eq!((value.to_str().unwrap(), format!("{value:?}").as_str()), ("Bearer hunter2", "Sensitive"));
        std::fs::write(&file, "hunter2\nhunter3").unwrap();
        let error = Credential::read(&file).unwrap().header("Bearer").unwrap_err();
        assert!(!error.contains("hunter"));
        std::fs::write(&file, "\n").unwrap();
        assert!(Credential::read(&file).is_err());
    }

    /// The vector is of the specification's reference libraries.
    #[test]
    fn a_message_is_signed_as_standard_webhooks_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let sign = |key: &str| {
            std::fs::write(&file, key).unwrap();
            let body = br#"{"test": 2432232314}"#;
            Credential::read(&file).unwrap().standard_signature(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                body,
            )
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(), expected);
        assert_eq!(sign("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(), expected);
        assert!(!sign("hunter2").unwrap_err().contains("hunter2"));
    }
}
