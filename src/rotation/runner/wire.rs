//! What the agent and its runner say to each other: one packet of a SOCK_SEQPACKET socket each.
//!
//! Pure. Numbers are big-endian.

use zeroize::Zeroizing;

/// The longest input of a program, in bytes.
pub const LONGEST: usize = 64 * 1024;
/// As much is told of what a program says on its standard error, in bytes.
pub(super) const SAID: usize = 512;
/// Before the input: the number of the request, and the end of its time in milliseconds since the machine booted.
const HEAD: usize = 16;
/// The largest packet.
pub(super) const PACKET: usize = HEAD + LONGEST;

/// What became of one run of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// It ended with this code, and said this on its standard error, cut off.
    Ended(i32, String),
    /// It was ended by a signal, or by us because its time was over.
    Killed,
    /// It could not be started; why.
    NotStarted(String),
    /// Its time was over before it was started: nothing has happened.
    Late,
}

/// A packet with `input`, to be done by `until_ms`.
pub(super) fn request(number: u64, until_ms: u64, input: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut packet = Zeroizing::new(Vec::with_capacity(HEAD + input.len()));
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&until_ms.to_be_bytes());
    packet.extend_from_slice(input);
    packet
}

/// Number, end and input of a packet.
pub(super) fn read_request(packet: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (number, rest) = packet.split_first_chunk::<8>()?;
    let (until, input) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), u64::from_be_bytes(*until), input))
}

/// The answer to request `number`.
pub(super) fn answer(number: u64, ran: &Ran) -> Vec<u8> {
    let (kind, code, said) = match ran {
        Ran::Ended(code, said) => (0, *code, said.as_str()),
        Ran::Killed => (1, 0, ""),
        Ran::NotStarted(why) => (2, 0, why.as_str()),
        Ran::Late => (3, 0, ""),
    };
    let mut packet = number.to_be_bytes().to_vec();
    packet.push(kind);
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(said.as_bytes().get(..SAID).unwrap_or(said.as_bytes()));
    packet
}

/// Which request an answer is to, and what it says.
pub(super) fn read_answer(packet: &[u8]) -> Option<(u64, Ran)> {
    let (number, rest) = packet.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first()?;
    let (code, said) = rest.split_first_chunk::<4>()?;
    let said = String::from_utf8_lossy(said).into_owned();
    let ran = match kind {
        0 => Ran::Ended(i32::from_be_bytes(*code), said),
        1 => Ran::Killed,
        2 => Ran::NotStarted(said),
        3 => Ran::Late,
        _ => return None,
    };
    Some((u64::from_be_bytes(*number), ran))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_read_back_as_they_were_written() {
        let packet = request(7, 123_456, b"{\"act\":\"set\"}");
        assert_eq!(read_request(&packet), Some((7, 123_456, &b"{\"act\":\"set\"}"[..])));
        assert_eq!(read_request(b"short"), None);
        for ran in [
            Ran::Ended(10, "no such user".to_owned()),
            Ran::Ended(-1, String::new()),
            Ran::Killed,
            Ran::NotStarted("no such file".to_owned()),
            Ran::Late,
        ] {
            assert_eq!(read_answer(&answer(9, &ran)), Some((9, ran)));
        }
        assert_eq!(read_answer(&[0; 9]), None);
    }
}
