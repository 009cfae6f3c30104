//! `get`: one secret from the agent to stdout.

use super::{
    Socket, answer, block_on, duration,
    exit::{Exit, Failure},
    reading::{self, Content, NotOne},
    terminal::{self, Sink},
};
use crate::name::SecretName;
use std::time::Duration;
use zeroize::Zeroizing;

/// Read one secret
///
/// Asks the sidecar for a secret by its name in the sidecar's config and writes it to stdout. The sidecar decides by who
/// this process is (uid, gid, groups, as the kernel says) and writes down every read.
///
/// A secret of one field is written bare; one of several as `field: value` lines, meant for people: a program names a field
/// with --field, or takes all of it with --json. A newline is added only on a terminal.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger get stripe                        the bare value
  claviger get orders-db                     username: ... and password: ...
  claviger get orders-db --field password    one of them, exactly its bytes
  claviger get orders-db --json | jq .data   with generation, dates and lease
  claviger get stripe --wait 30s             while the sidecar starts

Exit codes: 0 written, 1 failed, 2 wrong command line, 3 refused by policy, 4 not ready in time")]
pub(super) struct Args {
    /// The secret's name
    #[arg(value_parser = SecretName::new)]
    name: SecretName,
    /// Only this field, and nothing added to it
    #[arg(long, value_name = "FIELD", conflicts_with = "json")]
    field: Option<String>,
    /// How long to wait for a sidecar that starts and for a value that is not there yet
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    wait: Duration,
    /// The sidecar's answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let reply = block_on(reading::fetch(&args.socket.client()?, &args.name, args.wait))??;
    if args.json {
        return answer(&ended(&reply.body, terminal::sink()));
    }
    let text = render(&Content::parse(&reply.body)?, args.field.as_deref(), terminal::sink());
    answer(&text.map_err(|error| unreadable(&args.name, &error))?)
}

pub(super) fn unreadable(name: &SecretName, error: &NotOne) -> Failure {
    Failure::new(Exit::Failed, format!("reading {name}: {error}"))
}

/// The value that was asked for, or all of them.
fn render(content: &Content, field: Option<&str>, sink: Sink) -> Result<Zeroizing<Vec<u8>>, NotOne> {
    match (content.one(field), content) {
        (Ok(value), _) => Ok(ended(value.as_bytes(), sink)),
        (Err(NotOne::Several(_)), Content::Fields(fields)) => {
            let room = fields.iter().map(|(field, value)| field.len() + 3 + 3 * value.len()).sum();
            let mut lines = Zeroizing::new(Vec::with_capacity(room));
            for (field, value) in fields {
                lines.extend_from_slice(field.as_bytes());
                lines.push(b':');
                // The lines of a long value are indented, so that none of them looks like a field.
                let lead: &[u8] = if value.contains('\n') { b"\n  " } else { b" " };
                for line in value.lines() {
                    lines.extend_from_slice(lead);
                    lines.extend_from_slice(line.as_bytes());
                }
                lines.push(b'\n');
            }
            Ok(lines)
        }
        (Err(error), _) => Err(error),
    }
}

/// `bytes`, and on a terminal a newline after them if they lack one.
fn ended(bytes: &[u8], sink: Sink) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len() + 1));
    text.extend_from_slice(bytes);
    if sink == Sink::Screen && !bytes.ends_with(b"\n") {
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::client::{Client, Error},
        *,
    };
    use std::path::Path;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    fn check(json: &str, field: Option<&str>, sink: Sink, expected: &str) {
        let content = Content::parse(json.as_bytes()).ok().unwrap();
        let text = render(&content, field, sink).unwrap();
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected, "{json}");
    }

    #[test]
    fn one_value_is_bare_and_several_are_lines() {
        check(r#"{"value":"k"}"#, None, Sink::Pipe, "k");
        check(r#"{"value":"k"}"#, None, Sink::Screen, "k\n");
        check(r#"{"data":{"api_key":"k\n"}}"#, None, Sink::Screen, "k\n");
        let db = r#"{"data":{"username":"u","password":"p"}}"#;
        check(db, None, Sink::Pipe, "password: p\nusername: u\n");
        check(db, Some("password"), Sink::Pipe, "p");
        check(db, Some("password"), Sink::Screen, "p\n");
        let cert = r#"{"data":{"key":"BEGIN\na: b\nEND\n","ca":"c"}}"#;
        check(cert, None, Sink::Screen, "ca: c\nkey:\n  BEGIN\n  a: b\n  END\n");
    }

    /// One socket that hears one request and gives `answer`; says what `ask` came to, and the request's first line.
    async fn against(answer: &str, wait: Duration) -> (Result<Vec<u8>, Failure>, String) {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("claviger.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap().lines().next().unwrap().to_owned()
        };
        let (asked, heard) = tokio::join!(ask(&socket, wait), serve);
        (asked, heard)
    }

    async fn ask(socket: &Path, wait: Duration) -> Result<Vec<u8>, Failure> {
        let client = Client { socket: socket.to_owned(), server_uid: None };
        let reply = reading::fetch(&client, &SecretName::new("stripe").unwrap(), wait).await?;
        Ok(reply.body.to_vec())
    }

    fn http(status: &str, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_secret_comes_over_the_socket() {
        let (got, heard) = against(&http("200 OK", "", r#"{"value":"k"}"#), Duration::ZERO).await;
        assert_eq!(got, Ok(br#"{"value":"k"}"#.to_vec()));
        assert_eq!(heard, "GET /secrets/stripe HTTP/1.1");
    }

    #[tokio::test]
    async fn waiting_is_left_to_the_sidecar_first() {
        let (got, heard) = against(&http("200 OK", "", "{}"), Duration::from_secs(90)).await;
        assert!(got.is_ok());
        assert_eq!(heard, "GET /secrets/stripe?wait=60s HTTP/1.1");
    }

    #[tokio::test]
    async fn a_refusal_is_3_and_says_why() {
        let body = r#"{"errors":["no rule of report-job names it"],"reason":"no_rule","request_id":"7"}"#;
        let (got, _) = against(&http("403 Forbidden", "", body), Duration::from_secs(30)).await;
        let failure = got.unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.text, "refused: no rule of report-job names it (reason no_rule, request 7)");
        assert!(failure.remedy.unwrap().contains("claviger whoami"));
    }

    #[tokio::test]
    async fn not_ready_in_time_is_4_and_other_answers_are_1() {
        let (got, _) = against(&http("503 X", "Retry-After: 5\r\n", "away"), Duration::from_secs(2)).await;
        let failure = got.unwrap_err();
        assert_eq!((failure.exit, &*failure.text), (Exit::NotReady, "not ready: no reason was given"));
        for status in ["429 X", "500 X", "404 X", "302 X"] {
            let (got, _) = against(&http(status, "", ""), Duration::ZERO).await;
            assert_eq!(got.unwrap_err().exit, Exit::Failed, "{status}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_in_16_mib_is_refused() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 16777217\r\n\r\n";
        let (got, _) = against(&format!("{head}{}", "x".repeat(16_777_217)), Duration::ZERO).await;
        assert!(got.unwrap_err().text.ends_with("answered with more than 16 MiB"));
    }

    #[tokio::test]
    async fn no_sidecar_is_1_and_says_which_socket_and_what_to_look_at() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("claviger.sock");
        let failure = ask(&socket, Duration::ZERO).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.text.starts_with(&format!("connecting to {}: No such file", socket.display())));
        assert!(failure.remedy.unwrap().starts_with("is the sidecar running? is this the socket directory"));
        drop(UnixListener::bind(&socket).unwrap());
        let failure = ask(&socket, Duration::ZERO).await.unwrap_err();
        assert!(failure.remedy.unwrap().contains("nobody listens"));
    }

    #[tokio::test]
    async fn a_socket_with_a_long_path_is_reached_too() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("d".repeat(120));
        std::fs::create_dir(&directory).unwrap();
        let inside = std::fs::File::open(&directory).unwrap();
        let short = format!("/proc/self/fd/{}/claviger.sock", std::os::fd::AsRawFd::as_raw_fd(&inside));
        let _listener = UnixListener::bind(short).unwrap();
        let client = Client { socket: directory.join("claviger.sock"), server_uid: None };
        // Connected, and then nobody answers: the error is no longer about the way there.
        let asked = client.ask("/whoami", Duration::from_millis(10)).await;
        assert!(matches!(asked, Err(Error::TimedOut { .. })));
    }
}
