//! `identities`: the logins to Vault.
//!
//! Pure. Does not read a credential's file, and never repeats what stands where one could have been pasted.

use super::super::reader::{Leaf, Map};
use super::{ClientCert, Context, mount};
use crate::{
    name::IdentityName,
    vault::login::{JwtLogin, Method, SecretId, Settings},
};
use std::path::PathBuf;

#[derive(Clone, Copy)]
enum Kind {
    Kubernetes,
    Jwt,
    AppRole,
    Cert,
    TokenFile,
}

const KINDS: [(&str, Kind); 5] = [
    ("kubernetes", Kind::Kubernetes),
    ("jwt", Kind::Jwt),
    ("approle", Kind::AppRole),
    ("cert", Kind::Cert),
    ("token_file", Kind::TokenFile),
];

pub(super) fn read(leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Vec<Settings>> {
    let read: Vec<Option<Settings>> = leaf
        .named(IdentityName::new)?
        .into_iter()
        .map(|(name, leaf)| identity(name, &leaf, context))
        .collect();
    read.into_iter().collect()
}

fn identity(name: IdentityName, leaf: &Leaf<'_>, context: &Context<'_>) -> Option<Settings> {
    let mut map = leaf.map()?;
    let kind = map.need("method", "kubernetes, jwt, approle, cert or token_file", |leaf| leaf.word(&KINDS));
    let revoke_on_exit = map.or("revoke_on_exit", true, Leaf::flag);
    // Which keys are known depends on the method: without one, none is called unknown.
    let method = match kind? {
        Kind::Kubernetes => {
            jwt(&mut map, "kubernetes", Some("/var/run/secrets/claviger/token")).map(Method::Kubernetes)
        }
        Kind::Jwt => jwt(&mut map, "jwt", None).map(Method::Jwt),
        Kind::AppRole => approle(&mut map),
        Kind::Cert => cert(&mut map, context),
        Kind::TokenFile => map
            .need("token_file", "/run/vault/token", Leaf::path)
            .map(|token_file| Method::TokenFile { token_file }),
    };
    map.finish();
    Some(Settings { name, method: method?, revoke_on_exit: revoke_on_exit? })
}

fn mounted(map: &mut Map<'_>, default: &str) -> Option<String> {
    map.or("mount", default.to_owned(), mount)
}

fn jwt(map: &mut Map<'_>, at: &str, default: Option<&str>) -> Option<JwtLogin> {
    let mount = mounted(map, at);
    let role = map.need("role", "the role in Vault, as in reports", Leaf::text);
    let token_file = match default {
        Some(default) => map.or("token_file", PathBuf::from(default), Leaf::path),
        None => map.need("token_file", "/var/run/secrets/claviger/token", Leaf::path),
    };
    Some(JwtLogin { mount: mount?, role: role?, token_file: token_file? })
}

fn approle(map: &mut Map<'_>) -> Option<Method> {
    let mount = mounted(map, "approle");
    let role_id_file = map.need("role_id_file", "/etc/claviger/role-id", Leaf::path);
    let file = map.need("secret_id_file", "/etc/claviger/secret-id", Leaf::path);
    let wrapped = map.or("secret_id_wrapped", false, Leaf::flag);
    const EXAMPLE: &str = "auth/approle/role/NAME/secret-id";
    let secret_id = match wrapped {
        Some(true) => map
            .need("wrapped_path", EXAMPLE, creation_path)
            .and_then(|creation_path| Some(SecretId::Wrapped { file: file?, creation_path })),
        Some(false) => {
            let stray = map.find("wrapped_path");
            if let Some(leaf) = &stray {
                leaf.problem(
                    "wrapped_path without secret_id_wrapped",
                    "set secret_id_wrapped: true, or remove it",
                );
            }
            if stray.is_some() { None } else { file.map(|file| SecretId::Plain { file }) }
        }
        None => {
            // Known in both cases.
            let _ = map.find("wrapped_path");
            None
        }
    };
    Some(Method::AppRole { mount: mount?, role_id_file: role_id_file?, secret_id: secret_id? })
}

fn creation_path(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.text()?;
    let parts: Vec<&str> = text.split('/').collect();
    let fits = matches!(parts.as_slice(), ["auth", mount @ .., "role", role, "secret-id"]
        if !mount.is_empty() && !mount.contains(&"") && !role.is_empty());
    if !fits {
        leaf.problem(
            "not a path that makes a secret id",
            "write where the wrapping token was made: auth/approle/role/NAME/secret-id",
        );
    }
    fits.then_some(text)
}

fn cert(map: &mut Map<'_>, context: &Context<'_>) -> Option<Method> {
    let mount = mounted(map, "cert");
    let role = map.given("role", Leaf::text);
    if context.client_cert == ClientCert::Missing {
        map.leaf().problem(
            "method cert without a client certificate to show",
            "set vault.client_cert: {cert_file: …, key_file: …}",
        );
        return None;
    }
    Some(Method::Cert { mount: mount?, role: role? })
}
