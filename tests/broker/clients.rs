//! The clients that people use, as they are installed on this machine; what is not there is skipped with its reason.

use crate::{
    require_live,
    rig::{Plan, Rig, config},
    server::{Seen, Server, Step, acceptor, certify, say},
    skip,
    support::{LIMIT, Scene, VALUE, finish},
};
use std::{path::PathBuf, process::Output};
use tokio::process::Command;

fn echo(seen: &Seen) -> Vec<Step> {
    let key = seen.header("authorization").unwrap();
    assert_eq!(key, format!("Bearer {VALUE}"));
    let body =
        format!("{{\"target\": \"{}\", \"bytes\": {}, \"key\": \"{key}\"}}", seen.target, seen.body.len());
    say(200, &[("content-type", "application/json")], body)
}

async fn run(program: &str, line: &[&str]) -> Option<Output> {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().await.unwrap();
    if !found.status.success() {
        skip(&format!("{program} is not installed"));
        return None;
    }
    let mut command = Command::new(program);
    command.args(line);
    Some(finish(command).await)
}

fn assert_called(output: &Output, target: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(
        out.contains(target) && out.contains(&format!("Bearer {}", "*".repeat(VALUE.len()))),
        "{out}\n{err}"
    );
    assert!(!out.contains(VALUE) && !err.contains(VALUE));
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_calls_on_either_socket() {
    let rig = Rig::new(echo).await;
    let (job, api) = (rig.scene.socket("job"), rig.scene.socket("api"));
    for (socket, url) in [(&job, "http://x/upstreams/api/v1/charges"), (&api, "http://x/v1/charges")] {
        let line = [
            "-sS",
            "--unix-socket",
            socket.to_str().unwrap(),
            "-H",
            "Authorization: Bearer mine",
            "-d",
            "amount=1",
            url,
        ];
        let Some(output) = run("curl", &line).await else { return };
        assert_called(&output, "/v1/charges");
        // A large upload waits for `100 Continue`.
        let file = rig.scene.path("upload");
        std::fs::write(&file, vec![b'x'; 2_000_000]).unwrap();
        let at = format!("@{}", file.display());
        let output = run("curl", &["-sS", "--unix-socket", socket.to_str().unwrap(), "-T", &at[1..], url])
            .await
            .unwrap();
        assert_called(&output, "\"bytes\": 2000000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_calls_by_its_own_library() {
    let rig = Rig::new(echo).await;
    let script = format!(
        "import http.client, socket\n\
         class Line(http.client.HTTPConnection):\n\
         \x20   def connect(self):\n\
         \x20       self.sock = socket.socket(socket.AF_UNIX); self.sock.connect('{}')\n\
         line = Line('localhost')\n\
         for n in range(3):\n\
         \x20   line.request('POST', '/v1/charges', body=b'amount=1', headers={{'Authorization': 'Bearer mine'}})\n\
         \x20   print(line.getresponse().read().decode())\n",
        rig.scene.socket("api").display()
    );
    let Some(output) = run("python3", &["-c", &script]).await else { return };
    assert_called(&output, "/v1/charges");
}

/// A program of the lab's cache.
pub(crate) async fn lab(name: &str) -> Option<PathBuf> {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/build"));
    command.args(["--cached", name]);
    let output = finish(command).await;
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    assert!(!require_live(), "{name} is not in the lab's cache; tests/lab/build {name} makes it");
    skip(&format!("{name} is not in the lab's cache"));
    None
}

/// An API that several SDKs take for theirs.
fn api(seen: &Seen) -> Vec<Step> {
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {VALUE}")), "{}", seen.raw_head);
    let json = [("content-type", "application/json")];
    match seen.target.as_str() {
        "/v1/chat/completions" => say(
            200,
            &json,
            "{\"id\":\"1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\
             \"message\":{\"role\":\"assistant\",\"content\":\"hello from the api\"}}]}",
        ),
        "/v1/messages" => say(
            200,
            &json,
            "{\"id\":\"1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\
             \"usage\":{\"input_tokens\":1,\"output_tokens\":1},\"content\":[{\"type\":\"text\",\"text\":\"hello from the api\"}]}",
        ),
        // Two pages of GitHub's, the first of which links to the second.
        "/user/repos" => {
            let next = format!("<https://{}/user/repos?page=2>; rel=\"next\"", seen.header("host").unwrap());
            say(200, &[json[0], ("link", &next)], "[{\"name\": \"one\"}]")
        }
        "/user/repos?page=2" => say(200, &json, "[{\"name\": \"hello from the api\"}]"),
        "/bucket/key" => say(200, &[], "hello from the api"),
        _ => say(200, &json, "{\"object\": \"balance\", \"text\": \"hello from the api\"}"),
    }
}

/// Reading all these libraries takes long on a busy machine.
pub(crate) async fn assert_all_called(rig: &Rig, mut command: Command, calls: usize) {
    let running = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(LIMIT * 6, running).await.expect("the SDKs do not end").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(
        out.lines().filter(|line| line.ends_with("hello from the api")).count(),
        calls,
        "{out}\n{err}"
    );
    assert!(rig.server.seen().len() >= calls);
}

/// `claviger bridge` beside the command that is added behind it.
pub(crate) fn bridge(rig: &Rig, more: &[&str]) -> Command {
    let mut command = Command::new(crate::support::BINARY);
    let token = rig.scene.path("token");
    command.args(["bridge", "--listen", "127.0.0.1:0", "--token-file"]).arg(&token).arg("--socket");
    command.arg(rig.scene.socket("job")).args(more).arg("--").env("TOKEN_FILE", token);
    command
}

async fn bridged(rule: impl FnMut(&Seen) -> Vec<Step> + Send + 'static) -> Rig {
    let scene = Scene::new().await;
    certify(&scene.path(""), &[("server", "127.0.0.1")]);
    let server = Server::start(Some(acceptor(&scene.path(""), "server")), rule).await;
    let mut config = config(&scene, &server, &Plan::default());
    config.workloads = config.workloads.replace("peer:", "bridge: allow, peer:");
    let agent = scene.start(&config).await;
    Rig { scene, server, agent }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_libraries_and_sdks_call_with_a_key_that_they_do_not_have() {
    let rig = bridged(api).await;
    let Some(python) = lab("python").await else { return };
    // Over the socket, and once more over a bridge on the loopback.
    let mut command = bridge(&rig, &[]);
    command.arg(python.join("bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/sdks.py")).arg(rig.scene.socket("api"));
    assert_all_called(&rig, command, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_libraries_and_sdks_call_with_a_key_that_they_do_not_have() {
    let rig = Rig::new(api).await;
    let Some(modules) = lab("node-clients").await else { return };
    let mut command = Command::new("node");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/node-clients/call.js"));
    command.arg(rig.scene.socket("api")).env("NODE_PATH", modules);
    assert_all_called(&rig, command, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_carries_upstreams_for_whoever_has_the_token_of_its_run_and_links_lead_back_to_it() {
    let rig = bridged(|seen| {
        assert!(!seen.raw_head.contains("x-hop"), "{}", seen.raw_head);
        let host = seen.header("host").unwrap();
        let next = format!("<https://{host}/v1/charges?page=2>; rel=\"next\"");
        say(200, &[("link", &next)], &seen.target)
    })
    .await;
    let script = "set -e
        token=$(cat $TOKEN_FILE) up=$CLAVIGER_BRIDGE/upstreams/api code='%{http_code}\\n'
        curl -sf -H \"Authorization: Bearer $token\" -H 'Connection: x-hop' -H 'x-hop: 1' $up/v1/charges; echo
        curl -sf -H \"X-Api-Key: $token\" -d amount=1 $up/v1/charges; echo
        curl -sf -u \"any:$token\" $(curl -sf -D- -o /dev/null -H \"X-Api-Key: $token\" $up/ | sed -n 's/^[Ll]ink: <\\(.*\\)>.*/\\1/p'); echo
        curl -s -o /dev/null -w $code $up/v1/charges
        curl -s -o /dev/null -w $code -H 'X-Api-Key: guess' $up/v1/charges
        curl -s -o /dev/null -w $code -H \"X-Api-Key: $token\" $CLAVIGER_BRIDGE/secrets/stripe";
    let mut command = bridge(&rig, &[]);
    let output = finish({
        command.args(["sh", "-c", script]);
        command
    })
    .await;
    let out = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        ["/v1/charges", "/v1/charges", "/v1/charges?page=2", "403", "403", "403"],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // For clients that take no path in front of theirs, the port can be one upstream's.
    let mut command = bridge(&rig, &["--upstream", "api"]);
    let script = "curl -sf -H \"Authorization: Bearer $(cat $TOKEN_FILE)\" $CLAVIGER_BRIDGE/v1/balance";
    command.args(["sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&finish(command).await.stdout), "/v1/balance");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_calls_by_its_own_library() {
    let rig = Rig::new(echo).await;
    let script = format!(
        "require('http').request({{socketPath: '{}', path: '/v1/charges', method: 'POST', headers: {{authorization: 'mine'}}}}, \
         r => r.on('data', d => process.stdout.write(d))).end('amount=1')",
        rig.scene.socket("api").display()
    );
    let Some(output) = run("node", &["-e", &script]).await else { return };
    assert_called(&output, "/v1/charges");
}

#[tokio::test(flavor = "multi_thread")]
async fn go_calls_by_its_own_library() {
    let rig = Rig::new(echo).await;
    let Some(program) = lab("gocall").await else { return };
    let mut command = Command::new(program);
    command.arg(rig.scene.socket("api")).arg("http://localhost/v1/charges");
    assert_called(&finish(command).await, "/v1/charges");
}
