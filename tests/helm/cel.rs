//! As much of CEL as the policy says a sidecar in: literals, `dyn`, `+`, and one map over the clients. What it does not know
//! fails the test; the rest of CEL is the API server's.

use serde_json::{Map, Value};

/// What an expression stands for in a pod with these clients.
pub(crate) fn evaluate(expression: &str, clients: &[&str]) -> Value {
    let mut reader = Reader { rest: expression.trim(), clients, client: None };
    let value = reader.sum();
    assert_eq!(reader.rest, "", "behind the expression");
    value
}

/// The value that begins `expression`, for this client, which is called `c.name` there.
pub(crate) fn evaluate_start(expression: &str, clients: &[&str], client: &str) -> Value {
    Reader { rest: expression, clients, client: Some(client) }.sum()
}

struct Reader<'a> {
    rest: &'a str,
    clients: &'a [&'a str],
    client: Option<&'a str>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, word: &str) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn need(&mut self, word: &str) {
        assert!(self.take(word), "wanted {word} at {:.80}", self.rest);
    }

    fn sum(&mut self) -> Value {
        let mut value = self.term();
        while self.take("+") {
            value = match (value, self.term()) {
                (Value::Array(one), Value::Array(two)) => Value::Array([one, two].concat()),
                (Value::String(one), Value::String(two)) => Value::String(one + &two),
                (one, two) => panic!("{one} + {two}"),
            };
        }
        value
    }

    fn term(&mut self) -> Value {
        if self.take("dyn(") {
            return self.closed(Self::sum);
        }
        if self.take("string(") {
            return Value::String(self.closed(Self::sum).to_string());
        }
        if self.take("variables.clients.indexOf(") {
            let client = self.closed(Self::sum);
            return self.clients.iter().position(|found| client == **found).unwrap().into();
        }
        if self.take("variables.clients.map(client,") {
            return self.mapped();
        }
        if self.take("client") || self.take("c.name") {
            return self.client.unwrap().into();
        }
        if self.take("[") {
            let mut list = Vec::new();
            while !self.take("]") {
                list.push(self.sum());
                let _ = self.take(",");
            }
            return list.into();
        }
        if self.take("{") {
            return self.map();
        }
        self.scalar()
    }

    fn closed(&mut self, read: impl Fn(&mut Self) -> Value) -> Value {
        let value = read(self);
        self.need(")");
        value
    }

    /// The same text, read once for each client.
    fn mapped(&mut self) -> Value {
        let (text, clients) = (self.rest, self.clients);
        let mut list = Vec::new();
        // Nobody's, so that the text is read to its end when there are no clients.
        for client in clients.iter().copied().chain(clients.is_empty().then_some("nobody")) {
            let all = if clients.is_empty() { &["nobody"] } else { clients };
            let mut reader = Reader { rest: text, clients: all, client: Some(client) };
            list.push(reader.closed(Self::sum));
            self.rest = reader.rest;
        }
        list.truncate(clients.len());
        list.into()
    }

    fn map(&mut self) -> Value {
        let mut map = Map::new();
        while !self.take("}") {
            let key = self.scalar();
            self.need(":");
            let value = self.sum();
            assert!(map.insert(key.as_str().unwrap().to_owned(), value).is_none(), "{key} twice");
            let _ = self.take(",");
        }
        map.into()
    }

    /// A string, a number or a truth value: as in JSON.
    fn scalar(&mut self) -> Value {
        self.rest = self.rest.trim_start();
        let end = match self.rest.strip_prefix('"') {
            None => self.rest.find([',', ')', ']', '}', ' ']).unwrap(),
            Some(text) => {
                let mut escaped = false;
                let closes = |c: char| {
                    let found = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    found
                };
                text.find(closes).unwrap() + 2
            }
        };
        let (scalar, rest) = self.rest.split_at(end);
        self.rest = rest;
        serde_json::from_str(scalar).unwrap_or_else(|error| panic!("{error}: {scalar}"))
    }
}
