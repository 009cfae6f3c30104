//! Keys, certificates and signatures, made by openssl: nothing that claviger is built from has a say in them.

use crate::rig::printed;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Runs openssl in `folder`; the words are separated by spaces.
pub(crate) fn openssl(folder: &Path, words: &str) -> String {
    printed(Command::new("openssl").args(words.split(' ')).current_dir(folder))
}

/// A certificate that signs itself and its key, for a client.
pub(crate) fn client(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN={name} -addext \
             basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth -keyout {name}.key -out {name}.crt"
        ),
    );
    (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")))
}

/// A CA that signed nothing.
pub(crate) fn stranger(folder: &Path) -> PathBuf {
    openssl(
        folder,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=stranger -keyout stranger.key \
         -out stranger.crt",
    );
    folder.join("stranger.crt")
}

/// A key pair `NAME.pem` on P-256; gives the public half.
pub(crate) fn key_pair(folder: &Path, name: &str) -> String {
    openssl(folder, &format!("ecparam -name prime256v1 -genkey -noout -out {name}.pem"));
    openssl(folder, &format!("ec -in {name}.pem -pubout"))
}

/// A JWT of these claims, signed with `NAME.pem` (ES256: RFC 7518 section 3.4).
pub(crate) fn jwt(folder: &Path, name: &str, claims: &serde_json::Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"ES256","typ":"JWT"}"#), part(&claims.to_string()));
    fs::write(folder.join("signed"), &signed).unwrap();
    openssl(folder, &format!("dgst -sha256 -sign {name}.pem -out signature signed"));
    let numbers = openssl(folder, "asn1parse -inform DER -in signature");
    let hex: String = numbers
        .lines()
        .filter_map(|line| line.split_once("INTEGER")?.1.split_once(':'))
        .fold(String::new(), |hex, (_, number)| format!("{hex}{number:0>64}"));
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    assert_eq!(bytes.len(), 64, "{numbers}");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
}
