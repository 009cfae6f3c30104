//! What of a client's request reaches the upstream, and what does not.

use crate::{
    rig::{Plan, Rig},
    server::say,
    support::VALUE,
};

fn ok(_: &crate::server::Seen) -> Vec<crate::server::Step> {
    say(200, &[], "fine")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_calls_an_api_with_a_key_that_it_cannot_read() {
    let rig = Rig::new(ok).await;
    let reply = rig.line().await.ask("GET /upstreams/api/v1/charges?x=1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "fine"));
    let seen = rig.server.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/v1/charges?x=1"));
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {VALUE}")));
    assert_eq!(seen.header("host"), Some(&*rig.server.address.to_string()));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    // On the upstream's own socket its root is the socket's.
    assert_eq!(rig.get("/v1/balance").await.status, 200);
    assert_eq!(rig.server.last().target, "/v1/balance");
    // And nothing of ours is there.
    assert_eq!(rig.get("/secrets/stripe").await.text(), "fine");
    let reply = rig.line().await.ask("GET /secrets/stripe HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(reply.status, 403);
    assert!(!reply.text().contains(VALUE));
    assert_eq!(rig.server.connections(), 1, "the connection is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_hidden_in_the_body_of_another_stays_in_it() {
    let rig = Rig::new(ok).await;
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let text = format!(
        "POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
        hidden.len()
    );
    let reply = rig.own().await.ask(text).await;
    assert_eq!(reply.status, 200);
    let seen = rig.server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, hidden.as_bytes());
    assert_eq!(
        (seen[0].header("transfer-encoding"), seen[0].header("content-length")),
        (Some("chunked"), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_refused_and_nothing_is_connected() {
    let rig = Rig::new(ok).await;
    for (request, status, reason) in [
        (
            "POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_framing",
        ),
        ("GET http://evil/a HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("GET https://u:p@evil/a HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("CONNECT evil:443 HTTP/1.1\r\nhost: x\r\n\r\n", 405, "method_denied"),
        ("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("TRACE /a HTTP/1.1\r\nhost: x\r\n\r\n", 405, "method_denied"),
        ("BREW /a HTTP/1.1\r\nhost: x\r\n\r\n", 405, "method_denied"),
        ("GET /a/%2e%2e/b HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("GET /a/../b HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("GET /a/..%2fb HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("GET /%5c..%5c HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("GET //evil HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("GET /%252e HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("GET /a;b HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_target"),
        ("GET /a?_method=DELETE HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_query"),
        (
            "GET /a HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
            501,
            "upgrade_unsupported",
        ),
        ("GET /a HTTP/1.1\r\nhost: x\r\nconnection: host\r\n\r\n", 400, "bad_header"),
        ("GET /a HTTP/1.0\r\n\r\n", 400, "bad_framing"),
    ] {
        let reply = rig.own().await.ask(request).await;
        assert_eq!((reply.status, reply.reason().as_str()), (status, reason), "{request}");
    }
    assert_eq!((rig.server.connections(), rig.server.seen().len()), (0, 0));
    let denied = rig.events("denied", 18).await;
    assert!(denied.iter().all(|event| event["outcome"] == "deny" && event["upstream"]["name"] == "api"));
    assert_eq!(rig.events("intent", 0).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_said_to_be_so_and_is_on_record() {
    let rig = Rig::new(ok).await;
    let (long, longer) = ("x".repeat(9_000), "x".repeat(40_000));
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), 414),
        (format!("GET /{longer} HTTP/1.1\r\nhost: x\r\n\r\n"), 414),
        (format!("GET /a HTTP/1.1\r\nhost: x\r\n{}\r\n", "h: x\r\n".repeat(64)), 431),
        (format!("GET /a HTTP/1.1\r\nhost: x\r\n{}\r\n", "h: x\r\n".repeat(101)), 431),
        (format!("GET /a HTTP/1.1\r\nhost: x\r\nh: {longer}\r\n\r\n"), 431),
    ] {
        let start: String = request.chars().take(40).collect();
        let own = rig.own().await.ask(&request).await;
        assert_eq!((own.status, own.reason().as_str()), (status, "too_large"), "{start}");
        let shared = request.replace("GET /", "GET /upstreams/api/");
        let shared = rig.line().await.ask(&shared).await;
        assert_eq!((shared.status, shared.reason().as_str()), (status, "too_large"), "{start}");
    }
    // What was meant for Vault is on record as that.
    let vault = format!("GET /v1/secret/data/x HTTP/1.1\r\nhost: x\r\nh: {longer}\r\n\r\n");
    assert_eq!(rig.line().await.ask(vault).await.status, 431);
    assert_eq!((rig.server.connections(), rig.events("intent", 0).await.len()), (0, 0));
    let denied = rig.events("denied", 10).await;
    assert!(denied.iter().all(|event| event["reason"] == "too_large" && event["upstream"]["name"] == "api"));
    let vault = crate::rig::events(&rig.scene.journal());
    let vault: Vec<_> = vault.iter().filter(|event| event["type"] == "vault.denied.v1").collect();
    assert_eq!((vault.len(), &vault[0]["resource"]["path"]), (1, &"secret/data/x".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_has_one_spelling_for_the_rule_the_upstream_and_the_record() {
    let rig = Rig::new(ok).await;
    assert_eq!(rig.get("/%7euser/a%3ab").await.status, 200);
    assert_eq!(rig.server.last().target, "/~user/a%3Ab");
    assert_eq!(rig.events("intent", 1).await[0]["upstream"]["path"], "/~user/a%3Ab");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_slash_is_sent_as_it_came_where_the_upstream_has_them_in_its_names() {
    let plan = Plan {
        more: ", paths: {allow: [\"%2F\"]}".to_owned(),
        rule: "methods: [GET], paths: [\"storage/v1/b/+/o/+\"]",
        ..Plan::default()
    };
    let rig = Rig::with(plan, ok).await;
    assert_eq!(rig.get("/storage/v1/b/bucket/o/folder%2Ffile?alt=media").await.status, 200);
    assert_eq!(rig.server.last().target, "/storage/v1/b/bucket/o/folder%2Ffile?alt=media");
    for (bad, status) in [
        ("/storage/v1/b/x/o/..%2F..%2Fadmin", 400),
        ("/storage/v1/b/x/o/a;b", 400),
        ("/storage/v1/b%2Fx/o/a", 403),
    ] {
        assert_eq!(rig.get(bad).await.status, status, "{bad}");
    }
    assert_eq!(rig.server.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_says_about_itself_or_the_host_is_sent_on() {
    let rig = Rig::new(ok).await;
    let text = "POST /a HTTP/1.1\r\nHost: evil\r\nHost: evil2\r\nAuthorization: Bearer mine\r\nauthorization: again\r\n\
                X_Api_Key: mine\r\nX-Api-Key: mine\r\nConnection: x-secret, x-api-key\r\nX-Secret: 1\r\nX-HTTP-Method-Override: DELETE\r\n\
                Cookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nX-Vault-Token: t\r\nProxy-Authorization: p\r\nReferer: r\r\n\
                Range: bytes=0-1\r\nAccept-Encoding: gzip\r\nTE: trailers\r\nanthropic-version: 2023-06-01\r\n\
                Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
    let reply = rig.own().await.ask(text).await;
    assert_eq!(reply.status, 200);
    let seen = rig.server.last();
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["accept-encoding", "anthropic-version", "authorization", "content-length", "content-type", "host"]
    );
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {VALUE}")));
    assert_eq!(seen.header("host"), Some(&*rig.server.address.to_string()));
    let dropped = rig.events("intent", 1).await[0]["upstream"]["dropped"].clone();
    for name in ["authorization", "x-api-key", "x-secret", "x-http-method-override", "cookie"] {
        assert!(dropped.as_array().unwrap().contains(&name.into()), "{name}: {dropped}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_an_answer_is_asked_for_where_the_config_says_so() {
    let plan = Plan { more: ", headers: {range: allow}".to_owned(), ..Plan::default() };
    let rig = Rig::with(plan, |seen| {
        assert_eq!((seen.header("range"), seen.header("if-range")), (Some("bytes=2-3"), Some("\"v1\"")));
        say(206, &[("content-range", "bytes 2-3/8")], "cd")
    })
    .await;
    let text = "GET /big HTTP/1.1\r\nhost: x\r\nrange: bytes=2-3\r\nif-range: \"v1\"\r\n\r\n";
    let reply = rig.own().await.ask(text).await;
    assert_eq!((reply.status, reply.text().as_str()), (206, "cd"));
    assert_eq!(reply.header("content-range"), Some("bytes 2-3/8"));
    assert_eq!(rig.events("intent", 1).await[0]["upstream"]["dropped"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_query_is_the_only_one_of_its_name_and_the_last() {
    let plan = Plan { inject: "{secret: stripe, query: key}", ..Plan::default() };
    let rig = Rig::with(plan, ok).await;
    assert_eq!(rig.get("/p?key=a&KEY=b&x=1+2").await.status, 200);
    assert_eq!(rig.server.last().target, format!("/p?x=1+2&key={VALUE}"));
    let intent = rig.events("intent", 1).await.remove(0);
    assert_eq!(intent["upstream"]["query"], serde_json::json!(["key", "KEY", "x"]));
    assert!(!intent.to_string().contains("1+2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_body_is_put_last_and_the_rest_stays() {
    for (inject, media, body, expected) in [
        (
            "{secret: stripe, body: {form: client_secret}}",
            "application/x-www-form-urlencoded",
            "grant_type=x&client_secret=mine",
            format!("grant_type=x&client_secret={VALUE}"),
        ),
        (
            "{secret: stripe, body: {json: /client_secret}}",
            "application/json",
            "{\"client_secret\": 1, \"n\": 1.10}",
            format!("{{\"n\":1.10,\"client_secret\":\"{VALUE}\"}}"),
        ),
    ] {
        let rig = Rig::with(Plan { inject, ..Plan::default() }, ok).await;
        let post = |media: &str, body: &str| {
            format!(
                "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        assert_eq!(rig.own().await.ask(post(media, body)).await.status, 200);
        let seen = rig.server.last();
        assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), expected);
        assert_eq!(seen.header("content-length"), Some(&*expected.len().to_string()));
        let reply = rig.own().await.ask(post("text/plain", body)).await;
        assert_eq!((reply.status, reply.reason().as_str()), (400, "bad_body"));
        let reply = rig.own().await.ask(post(media, "{\"a\":1,\"a\":2}%")).await;
        assert_eq!((reply.status, reply.reason().as_str()), (400, "bad_body"));
        let large = "x".repeat(1024 * 1024 + 1);
        let reply = rig.own().await.ask(post(media, &large)).await;
        assert_eq!((reply.status, reply.reason().as_str()), (413, "too_large"));
        assert_eq!(rig.server.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_password_are_two_fields_of_one_secret() {
    let plan = Plan {
        inject: "{secret: jira, basic: {user: email, password: token}}",
        secrets: Some("{jira: {identity: reports, kind: kv, path: secret/jira}}"),
        ..Plan::default()
    };
    let scene = crate::support::Scene::new().await;
    scene.vault.put_kv("secret/jira", &[("email", "bot@example.com"), ("token", "0123456789abcdefg")]);
    let server = {
        crate::server::certify(&scene.path(""), &[("server", "127.0.0.1")]);
        crate::server::Server::start(Some(crate::server::acceptor(&scene.path(""), "server")), |seen| {
            say(200, &[], seen.header("authorization").unwrap())
        })
        .await
    };
    let agent = scene.start(&crate::rig::config(&scene, &server, &plan)).await;
    let rig = Rig { scene, server, agent };
    let reply = rig.get("/").await;
    // base64 of `bot@example.com:0123456789abcdefg`.
    assert_eq!(
        rig.server.last().header("authorization"),
        Some("Basic Ym90QGV4YW1wbGUuY29tOjAxMjM0NTY3ODlhYmNkZWZn")
    );
    assert!(reply.text().starts_with("Basic *") && reply.text().ends_with('*'), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_streams_and_one_that_is_too_large_is_cut_off() {
    let plan = Plan { more: ", max_request: 1MiB".to_owned(), ..Plan::default() };
    let rig = Rig::with(plan, |seen| say(200, &[], seen.body.len().to_string())).await;
    let body = vec![b'x'; 1024 * 1024];
    let head = |length: usize| {
        format!("POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n")
    };
    let reply = rig.own().await.ask([head(body.len()).as_bytes(), &body].concat()).await;
    assert_eq!(reply.text(), body.len().to_string());
    let mut line = rig.own().await;
    let reply = line.ask(head(body.len() + 1)).await;
    assert_eq!((reply.status, reply.reason().as_str()), (413, "too_large"));
    // Without a length it is found out on the way.
    let chunk = format!("{:x}\r\n", body.len());
    let chunked = [
        b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        chunk.as_bytes(),
        &body,
        b"\r\n1\r\nx\r\n0\r\n\r\n",
    ]
    .concat();
    let reply = rig.own().await.ask(chunked).await;
    assert_eq!((reply.status, reply.reason().as_str()), (413, "too_large"));
    let results = rig.events("result", 2).await;
    assert_eq!(
        (&results[0]["upstream"]["sent"], &results[0]["outcome"]),
        (&(1024 * 1024).into(), &"allow".into())
    );
    assert_eq!(results[1]["reason"], "too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_rule_names_is_called_and_an_unknown_upstream_answers_alike() {
    let plan = Plan {
        rule: "methods: [POST], paths: [v1/charges, \"v1/charges/+/refunds\"], query: {mode: [test]}",
        ..Plan::default()
    };
    let rig = Rig::with(plan, ok).await;
    let ask = async |target: &str| {
        rig.line().await.ask(format!("POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")).await
    };
    assert_eq!(ask("/upstreams/api/v1/charges?mode=test").await.status, 200);
    assert_eq!(ask("/upstreams/api/v1/charges/ch_1/refunds?mode=test&x=y").await.status, 200);
    let unknown = ask("/upstreams/nope/v1/charges?mode=test").await;
    assert_eq!((unknown.status, unknown.reason().as_str()), (403, "no_rule"));
    for target in
        ["/v1/charges", "/v1/charges?mode=live", "/v1/charges/ch_1?mode=test", "/v1/Charges?mode=test"]
    {
        let reply = ask(&format!("/upstreams/api{target}")).await;
        assert_eq!((reply.status, reply.reason().as_str()), (403, "no_rule"), "{target}");
    }
    let twice = ask("/upstreams/api/v1/charges?mode=test&Mode=live").await;
    assert_eq!((twice.status, twice.reason().as_str()), (400, "bad_query"));
    let get =
        rig.line().await.ask("GET /upstreams/api/v1/charges?mode=test HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((get.status, get.reason().as_str()), (403, "no_rule"));
    assert_eq!(rig.server.seen().len(), 2);
}
