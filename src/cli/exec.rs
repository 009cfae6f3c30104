//! `exec`: puts the secrets that were asked for into the environment, and becomes another program.
//!
//! Stays in no way beside that program: its pid, signals and exit code are its own.

use super::{
    SOCKET_VARIABLE, Socket, block_on,
    client::{Client, Error},
    duration,
    exit::{Exit, Failure},
    get,
    reading::{self, Content, NotOne},
};
use crate::name::SecretName;
use std::{
    collections::BTreeMap, ffi::OsString, io, os::unix::process::CommandExt as _, path::PathBuf,
    process::Command, time::Duration,
};

/// Run a command with secrets in its environment
///
/// Fetches the secrets that --env names, then becomes the command: same pid, its own signals and exit code. It gets
/// CLAVIGER_SOCKET too, so it can also ask for itself. Nothing else of the sidecar's goes into its environment.
///
/// The socket is the better way, where the program can use it. An environment variable can be read from /proc/PID/environ
/// for as long as the process lives, is inherited by every child it starts, ends up in crash reports and debug pages, and
/// never rotates: when the secret changes, or its lease ends, the process still has the old value. Over the socket
/// (`GET /secrets/NAME`) it is asked for when it is needed, it is always the newest, and every read is on record.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  claviger exec --env STRIPE_KEY=stripe -- ./report
  claviger exec --env PGUSER=orders-db.username --env PGPASSWORD=orders-db.password -- psql -h db orders
  claviger exec -- ./worker      no secret in the environment, only CLAVIGER_SOCKET

Two fields of one secret are of one read, so a user name and its password fit together.

Exit codes: the command's own; 125 failed before it ran (refused, not ready, no sidecar), 126 it cannot be run,
127 there is no such command, 2 wrong command line")]
pub(super) struct Args {
    /// VARIABLE=NAME for a secret of one field, VARIABLE=NAME.FIELD for one of several
    #[arg(long = "env", value_name = "VARIABLE=NAME[.FIELD]", value_parser = asked)]
    env: Vec<Asked>,
    /// How long to wait for a sidecar that starts and for values that are not there yet
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    wait: Duration,
    #[command(flatten)]
    socket: Socket,
    /// What to become
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// One variable that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    variable: String,
    name: SecretName,
    field: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let ours = |failure: Failure| Failure { exit: Exit::Ours, ..failure };
    let client = args.socket.client().map_err(ours)?;
    let contents = block_on(fetch(&client, &args.env, args.wait)).map_err(ours)?.map_err(ours)?;
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| Failure::new(Exit::Usage, "there is no command"))?;
    let mut command = Command::new(program);
    command.args(arguments).env(
        SOCKET_VARIABLE,
        absolute(client.socket).map_err(|error| ours(Failure::of(Exit::Ours, &error)))?,
    );
    for asked in &args.env {
        command.env(&asked.variable, value(asked, &contents)?);
    }
    // Comes back only with an error.
    let error = command.exec();
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::NotRunnable,
    };
    Err(Failure::new(exit, format!("running {}: {error}", program.to_string_lossy())))
}

/// Each secret once, however many of its fields were asked for; `wait` is for all of them.
async fn fetch(
    client: &Client,
    env: &[Asked],
    wait: Duration,
) -> Result<BTreeMap<SecretName, Content>, Failure> {
    let end = tokio::time::Instant::now() + wait;
    let mut contents = BTreeMap::new();
    for asked in env {
        if !contents.contains_key(&asked.name) {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let read =
                reading::fetch(client, &asked.name, left).await.and_then(|reply| Content::parse(&reply.body));
            let content = read.map_err(|error: Error| {
                let failure = Failure::from(error);
                Failure { text: format!("{}: {}", asked.name, failure.text), ..failure }
            })?;
            contents.insert(asked.name.clone(), content);
        }
    }
    Ok(contents)
}

/// The text of one variable.
fn value<'a>(asked: &Asked, contents: &'a BTreeMap<SecretName, Content>) -> Result<&'a str, Failure> {
    let Asked { variable, name, field } = asked;
    let missing = || Failure::new(Exit::Ours, format!("{name} was not fetched"));
    let content = contents.get(name).ok_or_else(missing)?;
    let value = content.one(field.as_deref()).map_err(|error| {
        let failure = get::unreadable(name, &error);
        let remedy = match error {
            NotOne::NoFields(_) => format!("write --env {variable}={name}"),
            _ => format!("write --env {variable}={name}.FIELD for one field of several"),
        };
        Failure { exit: Exit::Ours, ..failure }.remedy(remedy)
    })?;
    // The kernel ends each variable at the first zero: the rest would be lost without a word.
    if value.contains('\0') {
        let text = format!("reading {name}: a value with a zero byte cannot stand in the environment");
        return Err(Failure::new(Exit::Ours, text).remedy("read it over the socket"));
    }
    Ok(value)
}

/// The command may change its directory.
fn absolute(socket: PathBuf) -> io::Result<PathBuf> {
    std::path::absolute(socket)
}

fn asked(text: &str) -> Result<Asked, String> {
    let (variable, wanted) = text.split_once('=').ok_or("write VARIABLE=NAME or VARIABLE=NAME.FIELD")?;
    let (name, field) = match wanted.split_once('.') {
        Some((name, field)) => (name, Some(field)),
        None => (wanted, None),
    };
    let letters = variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if variable.is_empty() || !letters || variable.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("before `=` stands a variable's name: letters, digits and _, no digit first".to_owned());
    }
    if variable == SOCKET_VARIABLE {
        return Err(format!("{SOCKET_VARIABLE} is set by this command"));
    }
    if field == Some("") {
        return Err("there is no field after the point".to_owned());
    }
    let name = SecretName::new(name).map_err(|error| format!("after `=`: {error}"))?;
    Ok(Asked { variable: variable.to_owned(), name, field: field.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    fn parts(text: &str) -> Option<(String, String, Option<String>)> {
        asked(text).ok().map(|asked| (asked.variable, asked.name.to_string(), asked.field))
    }

    fn check(text: &str, expected: Option<(&str, &str, Option<&str>)>) {
        let expected =
            expected.map(|(variable, name, field)| (variable.into(), name.into(), field.map(Into::into)));
        assert_eq!(parts(text), expected, "{text}");
    }

    #[test]
    fn a_variable_names_a_secret_or_one_of_its_fields() {
        check("KEY=stripe", Some(("KEY", "stripe", None)));
        check("_k2=orders-db.password", Some(("_k2", "orders-db", Some("password"))));
        check("KEY=db.a.b=c", Some(("KEY", "db", Some("a.b=c"))));
        for wrong in
            ["KEY", "=stripe", "2K=stripe", "K-E=stripe", "KEY=", "KEY=Db", "KEY=db.", "CLAVIGER_SOCKET=db"]
        {
            check(wrong, None);
        }
    }

    #[tokio::test]
    async fn two_fields_of_one_secret_are_of_one_read() {
        let home = tempfile::tempdir().unwrap();
        let client = Client { socket: home.path().join("claviger.sock"), server_uid: None };
        let listener = UnixListener::bind(&client.socket).unwrap();
        let env = [asked("U=db.user").unwrap(), asked("P=db.pass").unwrap()];
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let body = r#"{"data":{"user":"u","pass":"p"}}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Held open until the client is done, so that only one connection can be answered.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let (contents, ()) = tokio::join!(fetch(&client, &env, Duration::ZERO), serve);
        let contents = contents.ok().unwrap();
        assert_eq!(env.map(|asked| value(&asked, &contents).unwrap().to_owned()), ["u", "p"]);
    }

    #[test]
    fn what_cannot_stand_in_the_environment_is_refused_with_a_way_out() {
        let name = SecretName::new("db").unwrap();
        let content = Content::parse(br#"{"data":{"user":"u","key":"a\u0000b"}}"#).ok().unwrap();
        let contents = BTreeMap::from([(name, content)]);
        assert_eq!(value(&asked("K=db.user").unwrap(), &contents), Ok("u"));
        for (text, remedy) in [
            ("K=db", "write --env K=db.FIELD for one field of several"),
            ("K=db.pass", "write --env K=db.FIELD for one field of several"),
            ("K=db.key", "read it over the socket"),
        ] {
            let failure = value(&asked(text).unwrap(), &contents).unwrap_err();
            assert_eq!((failure.exit, failure.remedy.as_deref()), (Exit::Ours, Some(remedy)), "{text}");
            assert!(!failure.text.contains("a\0b"));
        }
    }
}
