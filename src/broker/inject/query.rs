//! A key as a field of the query: the client's fields of that name go, ours comes last, the rest stays byte for byte.
//!
//! Pure.

use super::without;
use crate::broker::fault::Fault;
use bytes::Bytes;
use http::uri::PathAndQuery;
use zeroize::Zeroizing;

/// `path?query` with the encoded `key` as `name`.
///
/// # Errors
/// [`Fault::BadQuery`].
pub fn attached(path: &str, query: Option<&str>, name: &str, key: &[u8]) -> Result<PathAndQuery, Fault> {
    let kept = without(query.unwrap_or_default(), name).ok_or(Fault::BadQuery)?;
    let size = path.len() + query.map_or(0, str::len) + name.len() * 3 + key.len() + 4;
    let mut target = Zeroizing::new(Vec::with_capacity(size));
    target.extend_from_slice(path.as_bytes());
    target.push(b'?');
    for pair in kept {
        target.extend_from_slice(pair.as_bytes());
        target.push(b'&');
    }
    super::append_encoded(&mut target, name.as_bytes());
    target.push(b'=');
    target.extend_from_slice(key);
    PathAndQuery::from_maybe_shared(Bytes::from_owner(target)).map_err(|_| Fault::BadTarget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: Option<&str>, expected: Result<&str, Fault>) {
        let found = attached("/p", query, "key", b"S");
        assert_eq!(found.map(|target| target.to_string()), expected.map(str::to_owned), "{query:?}");
    }

    #[test]
    fn ours_is_the_only_one_and_the_last() {
        check(None, Ok("/p?key=S"));
        check(Some("key=a&KEY=b&x=1+2"), Ok("/p?x=1+2&key=S"));
        check(Some("x=%20&k%65y=a&y&k%45Y"), Ok("/p?x=%20&y&key=S"));
        check(Some("key[]=a&key[0]=b&keys=c"), Ok("/p?keys=c&key=S"));
        check(Some("&&"), Ok("/p?key=S"));
        check(Some("x=1&%zz=2"), Err(Fault::BadQuery));
        assert_eq!(
            attached("/p", Some("api.key=1&api_key=2&api-key=3"), "api_key", b"S").unwrap(),
            "/p?api_key=S"
        );
    }
}
