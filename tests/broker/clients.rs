//! The clients that people use, as they are installed on this machine; what is not there is skipped with its reason.

use crate::{
    require_live,
    rig::Rig,
    server::{Seen, Step, say},
    skip,
    support::{LIMIT, VALUE, finish},
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
async fn lab(name: &str) -> Option<PathBuf> {
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

#[tokio::test(flavor = "multi_thread")]
async fn python_libraries_and_sdks_call_with_a_key_that_they_do_not_have() {
    let rig = Rig::new(|seen| {
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {VALUE}")), "{}", seen.raw_head);
        match seen.target.as_str() {
            "/v1/chat/completions" => say(
                200,
                &[("content-type", "application/json")],
                "{\"id\":\"1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\
                 \"message\":{\"role\":\"assistant\",\"content\":\"hello from the api\"}}]}",
            ),
            "/v1/messages" => say(
                200,
                &[("content-type", "application/json")],
                "{\"id\":\"1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\
                 \"usage\":{\"input_tokens\":1,\"output_tokens\":1},\"content\":[{\"type\":\"text\",\"text\":\"hello from the api\"}]}",
            ),
            _ => say(200, &[("content-type", "application/json")], "{\"object\": \"balance\", \"text\": \"hello from the api\"}"),
        }
    })
    .await;
    let Some(python) = lab("python").await else { return };
    let mut command = Command::new(python.join("bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/sdks.py")).arg(rig.scene.socket("api"));
    // Reading all these libraries takes long on a busy machine.
    let running = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(LIMIT * 6, running).await.expect("the SDKs do not end").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(out.lines().filter(|line| line.ends_with("hello from the api")).count(), 5, "{out}\n{err}");
    assert!(rig.server.seen().len() >= 5);
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
