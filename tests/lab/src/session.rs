//! A session of a user that stays open, as a client's does: psql, with a pipe at each end.

use crate::Postgres;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// An open session over TCP, where a password is asked for at its beginning alone. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// `None`: the user is refused.
    ///
    /// # Panics
    /// When psql cannot be run, or says something else: that is no answer about the password.
    pub fn open(postgres: &Postgres, user: &str, password: &str) -> Option<Session> {
        let mut command = Command::new(postgres.programs().join("psql"));
        command.env_clear().env("PGPASSWORD", password);
        command.args(["-X", "-q", "-A", "-t", "-w", "-h", "127.0.0.1", "-d", "postgres"]);
        command.args(["-p", &postgres.port().to_string(), "-U", user]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("running psql: {error}"));
        let (input, answers) = child.stdin.take().zip(child.stdout.take()).expect("both are pipes");
        let mut session = Session { child, input, answers: BufReader::new(answers) };
        if session.query() {
            return Some(session);
        }
        let mut said = String::new();
        if let Some(mut stderr) = session.child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        let refusals = ["password authentication failed", "not permitted to log in", "does not exist"];
        assert!(
            refusals.iter().any(|refusal| said.contains(refusal)),
            "asking PostgreSQL about {user}: {said}"
        );
        None
    }

    /// Whether a query is answered.
    pub fn query(&mut self) -> bool {
        let mut line = String::new();
        // Of a session that was refused there is nobody to write to.
        let _ = self.input.write_all(b"select 1;\n");
        self.answers.read_line(&mut line).is_ok() && line == "1\n"
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
