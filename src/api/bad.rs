//! Requests that are not understood, or not read at all, and what is answered to them.
//!
//! Nothing of them is done, and they make no event but in the metrics.

use super::{Content, answer, upstream};
use crate::{
    access::{Fault, Reason, Unheld},
    upload::Cut,
};
use http::{HeaderValue, Response, StatusCode, header};
use std::time::Duration;

/// A request that is not understood, or not read at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It is malformed, in this way.
    Request(&'static str),
    /// There is no such route.
    NoRoute,
    /// The route has these methods only.
    Method(&'static str),
    /// Its first line is longer than this many bytes.
    TargetTooLong(usize),
    /// Its head is larger than this many bytes, or has too many fields.
    HeadTooLarge(usize),
    /// Its body is larger than this many bytes.
    TooLarge(u64),
    /// Too many bodies are held at the moment.
    BuffersFull,
    /// Over the workload's rate for this long.
    OverRate(Duration),
}

impl Bad {
    pub(super) fn request(what: &'static str) -> Self {
        Self::Request(what)
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Request(_) | Self::NoRoute | Self::Method(_) => Reason::BadRequest,
            Self::TargetTooLong(_) | Self::HeadTooLarge(_) | Self::TooLarge(_) => Reason::TooLarge,
            Self::BuffersFull => Reason::Upstream(Fault::BuffersFull),
            Self::OverRate(_) => Reason::RateLimited,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Request(what) => (*what).to_owned(),
            Self::NoRoute => "no such route".to_owned(),
            Self::Method(methods) => format!("this route has {methods} only"),
            Self::TargetTooLong(limit) => format!("the request's first line is longer than {limit} bytes"),
            Self::HeadTooLarge(limit) => {
                format!("the request's head is larger than {limit} bytes, or has more than 100 fields")
            }
            Self::TooLarge(limit) => format!("the body is larger than {limit} bytes"),
            Self::BuffersFull => Fault::BuffersFull.to_string(),
            Self::OverRate(_) => {
                "over what this workload's limits.requests_per_second gives one user; wait and ask again"
                    .to_owned()
            }
        }
    }
}

impl From<Unheld> for Bad {
    fn from(unheld: Unheld) -> Self {
        match unheld {
            Unheld::OverHeld(most) | Unheld::OverRule(most) | Unheld::Cut(Cut::TooLarge(most)) => {
                Self::TooLarge(most)
            }
            Unheld::Full => Self::BuffersFull,
            Unheld::Cut(Cut::Late) => Self::Request("the body did not come in time"),
            Unheld::Cut(Cut::Broken | Cut::Closed) => Self::Request("the body is malformed or cut off"),
        }
    }
}

/// The status of a request that is not understood.
pub(super) fn status(bad: &Bad) -> StatusCode {
    match bad {
        Bad::NoRoute => StatusCode::NOT_FOUND,
        Bad::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
        Bad::TargetTooLong(_) => StatusCode::URI_TOO_LONG,
        Bad::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => answer::status(bad.reason()),
    }
}

/// What is answered to a request that is not understood.
pub(super) fn answer(bad: &Bad) -> Response<Content> {
    let reason = bad.reason();
    let retry = match bad {
        Bad::OverRate(wait) => Some(*wait),
        Bad::BuffersFull => upstream::retry_after(Fault::BuffersFull),
        _ => None,
    };
    let mut response = answer::error(status(bad), reason, &bad.text(), None, retry);
    if let Bad::Method(methods) = bad {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    response
}
