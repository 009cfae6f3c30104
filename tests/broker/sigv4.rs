//! Requests signed for AWS. The upstream checks each signature as AWS does, by code of its own: the signer that the agent uses is
//! not asked whether it was right.

use crate::{
    clients::{assert_all_called, bridge, lab},
    rig::{Plan, Rig, config},
    server::{Seen, Server, Step, acceptor, certify, say},
    support::Scene,
};
use claviger::crypto::{hex, hmac_sha256, sha256};

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLETOKEN//////////wEaCXVzLWVhc3QtMSJ+and/more==";

/// An agent whose upstream is `service`, with the session's key of the example.
async fn rig(service: &str, more: &str, rule: impl FnMut(&Seen) -> Vec<Step> + Send + 'static) -> Rig {
    let scene = Scene::new().await;
    scene.vault.put_kv(
        "secret/aws",
        &[("access_key_id", ID), ("secret_access_key", SECRET), ("session_token", TOKEN)],
    );
    certify(&scene.path(""), &[("server", "127.0.0.1")]);
    let server = Server::start(Some(acceptor(&scene.path(""), "server")), rule).await;
    let plan = Plan {
        secrets: Some("{aws: {identity: reports, kind: kv, path: secret/aws, refresh: 1s}}"),
        ..Plan::default()
    };
    let mut config = config(&scene, &server, &plan);
    let inject = format!("{{secret: aws, sigv4: {{region: eu-west-1, service: {service}{more}}}}}");
    config.rest = config.rest.replace(plan.inject, &inject);
    config.workloads = config.workloads.replace("peer:", "bridge: allow, peer:");
    let agent = scene.start(&config).await;
    Rig { scene, server, agent }
}

/// A text with everything but unreserved characters percent-encoded.
fn encoded(text: &str, kept: &str) -> String {
    let one = |byte: u8| {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || kept.contains(c) {
            c.to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(&behind[..2], 16).unwrap());
        rest = &behind[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap()
}

/// Whether it is signed with `secret` ("Create a signed AWS API request" in AWS' documentation).
fn is_signed(seen: &Seen, secret: &str) -> bool {
    let authorization = seen.header("authorization").unwrap();
    let part = |name: &str| {
        let start = authorization.find(name).unwrap() + name.len();
        authorization[start..].split(',').next().unwrap()
    };
    let (scope, names, signature) = (part("Credential="), part("SignedHeaders="), part("Signature="));
    let scope: Vec<&str> = scope.split('/').collect();
    let [id, day, region, service, end] = scope[..] else { panic!("{scope:?}") };
    assert_eq!((id, region, end), (ID, "eu-west-1", "aws4_request"));
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let path = if service == "s3" { encoded(&decoded(path), "/") } else { encoded(path, "/") };
    let mut query: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", encoded(&decoded(name), ""), encoded(&decoded(value), ""))
        })
        .collect();
    query.sort();
    let hash = seen.header("x-amz-content-sha256").unwrap();
    assert!(hash == "UNSIGNED-PAYLOAD" || hash == hex(&sha256(&seen.body)), "{hash}");
    let headers: String =
        names.split(';').map(|name| format!("{name}:{}\n", seen.header(name).unwrap())).collect();
    for name in ["host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"] {
        assert!(names.split(';').any(|found| found == name), "{name} of {names}");
    }
    let canonical = format!("{}\n{path}\n{}\n{headers}\n{names}\n{hash}", seen.method, query.join("&"));
    let time = seen.header("x-amz-date").unwrap();
    assert!(time.starts_with(day));
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{day}/{region}/{service}/aws4_request\n{}",
        hex(&sha256(canonical.as_bytes()))
    );
    let key = [day, region, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| {
            hmac_sha256(&key, &[part.as_bytes()]).to_vec()
        });
    hex(&hmac_sha256(&key, &[text.as_bytes()])) == signature
}

/// Takes what is signed with the example's key, and gives its whole head back.
fn aws(seen: &Seen) -> Vec<Step> {
    if is_signed(seen, SECRET) {
        say(200, &[], &seen.raw_head)
    } else {
        say(403, &[], "SignatureDoesNotMatch")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_takes_a_request_that_was_signed_with_a_key_that_the_workload_does_not_have() {
    let rig = rig("bedrock", "", aws).await;
    for target in [
        "/",
        "/model/a%3Ab/invoke",
        "/model/a:b@c(1)/~x",
        "/%C3%A4?b=2&a=1&a=%20&c",
        "/?x-amz-target=y&z=%2F",
    ] {
        let reply = rig.get(target).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        assert_eq!(rig.server.last().header("x-amz-security-token"), Some(TOKEN));
    }
    let post = "POST /model/m/converse HTTP/1.1\r\nhost: evil\r\ncontent-type: application/json\r\nx-amz-target: A.B\r\n\
                authorization: AWS4-HMAC-SHA256 mine\r\nx-amz-date: 20150830T123600Z\r\nx-amz-security-token: mine\r\n\
                x-amz-content-sha256: mine\r\ncontent-length: 8\r\n\r\n{\"a\": 1}";
    let reply = rig.own().await.ask(post).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = rig.server.last();
    assert!(seen.header("authorization").unwrap().contains("content-type;host;x-amz-"));
    assert_eq!(seen.header("host"), Some(&*rig.server.address.to_string()));
    // The upstream gave all of that back: key, token and signature are masked in it.
    let signature = seen.header("authorization").unwrap().rsplit('=').next().unwrap();
    for part in [ID, SECRET, TOKEN, signature] {
        assert!(!reply.text().contains(part), "{}", reply.text());
    }
    assert!(reply.text().contains("Signature=****") && reply.text().contains("Credential=****"));
    let intent = rig.events("intent", 6).await.pop().unwrap();
    assert_eq!(intent["upstream"]["slot"], "sigv4");
    let all = crate::rig::events(&rig.scene.journal()).iter().map(ToString::to_string).collect::<String>();
    for part in [ID, SECRET, TOKEN, signature] {
        assert!(!all.contains(part) && !rig.agent.stderr().contains(part));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_takes_paths_encoded_once_and_large_bodies_that_are_not_signed() {
    let signed = rig("s3", "", aws).await;
    for target in ["/bucket/a%20b%2Bc/%C3%A4", "/bucket/a:b?acl", "/bucket?list-type=2&prefix=a%2Fb"] {
        // A slash in a name is nothing that our paths have.
        let reply = signed.get(target).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
    }
    let put = |length: usize| {
        let head = format!("PUT /bucket/key HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        [head.as_bytes(), &vec![b'x'; length]].concat()
    };
    assert_eq!(signed.own().await.ask(put(4 * 1024 * 1024)).await.status, 200);
    let reply = signed.own().await.ask(put(4 * 1024 * 1024 + 1)).await;
    assert_eq!((reply.status, reply.reason().as_str()), (413, "too_large"));
    let unsigned = rig("s3", ", payload: unsigned", aws).await;
    assert_eq!(unsigned.own().await.ask(put(6 * 1024 * 1024)).await.status, 200);
    assert_eq!(unsigned.server.last().header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    assert_eq!(unsigned.server.last().body.len(), 6 * 1024 * 1024);
}

/// Its own signature, of a key that it has not, is dropped; what it waits with (`Expect`) and what it adds are sent and signed.
#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_aws_works_over_a_bridge_with_a_key_that_it_does_not_have() {
    let rig = rig("s3", "", |seen| match (is_signed(seen, SECRET), seen.method.as_str()) {
        (true, "PUT") => {
            assert_eq!((seen.target.as_str(), &*seen.body), ("/bucket/folder/a%20key", &b"some bytes"[..]));
            say(200, &[("etag", "\"x\"")], "")
        }
        (true, _) => say(200, &[], "hello from the api"),
        (false, _) => say(403, &[], ""),
    })
    .await;
    let Some(python) = lab("python").await else { return };
    let mut command = bridge(&rig, &[]);
    command.arg(python.join("bin/python")).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/boto.py"));
    assert_all_called(&rig, command, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_signed_itself_is_refused() {
    let rig = rig("s3", "", aws).await;
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
    let put = |header: &str| format!("PUT /a HTTP/1.1\r\nhost: x\r\n{header}\r\ncontent-length: 1\r\n\r\nx");
    for (request, reason) in [
        (get("/a?X-Amz-Signature=0"), "bad_query"),
        (get("/a?x%2damz-credential=0"), "bad_query"),
        (put("x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), "bad_body"),
        (put("content-encoding: aws-chunked"), "bad_body"),
    ] {
        let reply = rig.own().await.ask(&request).await;
        assert_eq!((reply.status, reply.reason().as_str()), (400, reason), "{request}");
    }
    assert_eq!(rig.server.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_signed_with_a_rotated_key_as_soon_as_it_is_there() {
    const NEW: &str = "a-new-secret-access-key-after-rotation";
    let rig = rig("bedrock", "", |seen| {
        let which = if is_signed(seen, SECRET) {
            "old"
        } else if is_signed(seen, NEW) {
            "new"
        } else {
            "bad"
        };
        say(200, &[], which)
    })
    .await;
    assert_eq!(rig.get("/").await.text(), "old");
    rig.scene
        .vault
        .put_kv("secret/aws", &[("access_key_id", ID), ("secret_access_key", NEW), ("session_token", TOKEN)]);
    crate::support::until("the new key", || async { (rig.get("/").await.text() == "new").then_some(()) })
        .await;
    assert!(rig.server.connections() == 2, "another key, another connection");
}
