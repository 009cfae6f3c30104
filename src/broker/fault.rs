//! Why a call of an upstream was not made, or did not end well: a closed set of words.
//!
//! Pure. The statuses that a client sees are for `api`.

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Fault {
    /// The request's target could mean one thing to us and another to the upstream.
    #[error("the request's target is malformed, or can be read in two ways")]
    BadTarget,
    /// A header would change how the message is read.
    #[error("a header of the request may not be there")]
    BadHeader,
    /// The target is longer than 8 KiB, or than a head may be.
    #[error("the request's target is longer than it may be")]
    TargetTooLong,
    /// There are more than 64 fields, or more bytes than a head may have.
    #[error("the request's header section is larger than it may be")]
    HeadTooLarge,
    /// The body's framing can be read in two ways.
    #[error("Transfer-Encoding must be chunked, once, or not be there")]
    BadFraming,
    /// The query is malformed, or asks for what the slot or the rule decides.
    #[error("the query is malformed, or names what may not be named")]
    BadQuery,
    /// The body is not what the slot needs.
    #[error("the body is not what the key is put into")]
    BadBody,
    /// The method is one that no upstream gets.
    #[error("this method is not sent to upstreams")]
    MethodDenied,
    /// The connection should become something else than HTTP.
    #[error("connections are not upgraded")]
    UpgradeUnsupported,
    /// The rule's calls of today are used up.
    #[error("over the rule's calls_per_day")]
    BudgetExhausted,
    /// The body is larger than `max_request`, or than what may be signed or changed.
    #[error("the body is larger than what may be sent")]
    TooLarge,
    /// Too much is buffered at the moment.
    #[error("too many bodies are held in memory at the moment")]
    BuffersFull,
    /// There is no key that can be used.
    #[error("there is no key to send it with")]
    CredentialUnavailable,
    /// The upstream says that the key is not valid.
    #[error("the upstream refuses the key")]
    CredentialRejected,
    /// The upstream's name has no address.
    #[error("the upstream's name cannot be resolved")]
    DnsFailed,
    /// The upstream's name leads to an address that may not be called.
    #[error("the upstream's name leads to an address that may not be called")]
    DnsDenied,
    /// There is no connection to the upstream.
    #[error("the upstream cannot be connected to")]
    ConnectFailed,
    /// The upstream is not who it should be, or a certificate of ours cannot be used.
    #[error("no trusted TLS connection to the upstream can be made")]
    TlsFailed,
    /// The upstream closed the connection before it answered, or its answer is not HTTP.
    #[error("the upstream's answer makes no sense, or broke off")]
    UpstreamProtocol,
    /// The answer is encoded, so that it could not be seen whether the key is in it.
    #[error("the upstream's answer is compressed or encoded, so the key could not be found in it")]
    ResponseEncoded,
    /// The answer is larger than `max_response`.
    #[error("the upstream's answer is larger than max_response")]
    ResponseTooLarge,
    /// The upstream did not answer, or did not go on, in time.
    #[error("the upstream did not answer in time")]
    UpstreamTimeout,
    /// The client hung up before the answer's end.
    #[error("the client hung up")]
    ClientGone,
    /// The upstream broke off in the middle of its answer.
    #[error("the upstream broke off")]
    UpstreamAborted,
}

impl Fault {
    /// The word of the answers, the events and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BadTarget => "bad_target",
            Self::BadHeader => "bad_header",
            Self::BadFraming => "bad_framing",
            Self::BadQuery => "bad_query",
            Self::BadBody => "bad_body",
            Self::MethodDenied => "method_denied",
            Self::UpgradeUnsupported => "upgrade_unsupported",
            Self::BudgetExhausted => "budget_exhausted",
            Self::TooLarge | Self::TargetTooLong | Self::HeadTooLarge => "too_large",
            Self::BuffersFull => "buffers_full",
            Self::CredentialUnavailable => "credential_unavailable",
            Self::CredentialRejected => "credential_rejected",
            Self::DnsFailed => "dns_failed",
            Self::DnsDenied => "dns_denied",
            Self::ConnectFailed => "connect_failed",
            Self::TlsFailed => "tls_failed",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::ResponseEncoded => "response_encoded",
            Self::ResponseTooLarge => "response_too_large",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::ClientGone => "client_gone",
            Self::UpstreamAborted => "upstream_aborted",
        }
    }

    /// Whether the request was refused before anything of it was done.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::BadTarget
                | Self::TargetTooLong
                | Self::HeadTooLarge
                | Self::BadHeader
                | Self::BadFraming
                | Self::BadQuery
                | Self::BadBody
                | Self::MethodDenied
                | Self::UpgradeUnsupported
                | Self::BudgetExhausted
                | Self::DnsDenied
        )
    }

    /// Whether bytes of the request may have reached the upstream: a client must not send it again by itself.
    #[must_use]
    pub fn may_have_been_sent(self) -> bool {
        matches!(
            self,
            Self::UpstreamProtocol
                | Self::ResponseEncoded
                | Self::ResponseTooLarge
                | Self::UpstreamTimeout
                | Self::CredentialRejected
                | Self::UpstreamAborted
        )
    }
}
