//! A signature by an SSH key, which `ssh-keygen` makes: it asks for the passphrase itself, and takes a key of an agent too.
//!
//! Never reads the private key.

use super::super::exit::{Exit, Failure};
use crate::approval::{
    ssh,
    ticket::{Shown, ShownApprover},
};
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// Signs `text` with the key in `file`; gives whose key of the request it is, and the armoured signature.
pub(super) fn by_ssh(shown: &Shown, file: &Path, text: &str) -> Result<(ShownApprover, String), Failure> {
    let failed = |what: &str| Failure::new(Exit::Failed, format!("signing with {}: {what}", file.display()));
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "sign", "-n", ssh::NAMESPACE, "-f"]).arg(file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        failed(&format!("ssh-keygen cannot be run: {error}"))
            .remedy("install the client of OpenSSH 8.1 or later")
    })?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes()).map_err(|error| failed(&error.to_string()))?;
    }
    let signed = child.wait_with_output().map_err(|error| failed(&error.to_string()))?;
    let signature = String::from_utf8_lossy(&signed.stdout).into_owned();
    let key = ssh::signer(&signature).filter(|_| signed.status.success());
    let key = key.ok_or_else(|| failed("ssh-keygen made no signature of an ed25519 key"))?;
    let spelled = ssh::spell(&key);
    let mine = shown.approvers.iter().find(|approver| approver.ssh_key.as_ref() == Some(&spelled));
    let mine = mine.ok_or_else(|| {
        Failure::new(Exit::Refused, format!("{} is no key of an approver of this request", file.display()))
    })?;
    Ok((mine.clone(), signature))
}
