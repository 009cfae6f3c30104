//! Durations (`10s`, `1h30m`) and sizes (`64KiB`) as people write them.
//!
//! Pure. No fractions and no bare numbers: a unit that is not written is a unit that is guessed.

use std::{fmt::Write as _, time::Duration};

const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `1h30m`: each unit (`d h m s ms`) at most once, the larger before the smaller. `None` for anything else, and for more
/// than 100 years.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    const CENTURY: u64 = 36_525 * 86_400_000;
    let mut units = DURATIONS.iter();
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest)?;
        let (_, milliseconds) = units.find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.checked_mul(*milliseconds)?).filter(|sum| *sum <= CENTURY)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(sum))
}

/// Reads `64KiB`: one whole number and one of `B KiB MiB GiB`. `None` for anything else, and for what passes 64 bits.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit, after) = number_and_unit(text)?;
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit)?;
    if after.is_empty() { number.checked_mul(*bytes) } else { None }
}

/// `duration` as a person would write it.
pub(super) fn spell_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, milliseconds) in DURATIONS {
        if rest >= milliseconds {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{unit}", rest / milliseconds);
            rest %= milliseconds;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `size` in the largest unit that leaves no rest.
pub(super) fn spell_size(size: u64) -> String {
    let (unit, bytes) =
        SIZES.iter().find(|(_, bytes)| size >= *bytes && size.is_multiple_of(*bytes)).unwrap_or(&("B", 1));
    format!("{}{unit}", size / bytes)
}

fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(end);
    Some((number.parse().ok()?, unit, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_an_order() {
        for (text, milliseconds) in [
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("24h", Some(86_400_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1d2h3m4s5ms", Some(93_784_005)),
            ("0s", Some(0)),
            ("45d", Some(3_888_000_000)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1.5h", None),
            ("-1s", None),
            ("+1s", None),
            ("30m1h", None),
            ("1s1s", None),
            ("1h 30m", None),
            ("10S", None),
            ("10 s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("40000d", None),
            ("१s", None),
        ] {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two_and_say_so() {
        for (text, bytes) in [
            ("64KiB", Some(65_536)),
            ("2GiB", Some(2_147_483_648)),
            ("1MiB", Some(1_048_576)),
            ("512B", Some(512)),
            ("0B", Some(0)),
            ("", None),
            ("64", None),
            ("64K", None),
            ("64KB", None),
            ("64kib", None),
            ("1MiB512KiB", None),
            ("1.5MiB", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_spelled_reads_back() {
        for text in ["10s", "1h30m", "250ms", "1d2h3m4s5ms", "0s"] {
            assert_eq!(duration(text).map(spell_duration).as_deref(), Some(text));
        }
        for text in ["64KiB", "1GiB", "3B", "0B"] {
            assert_eq!(size(text).map(spell_size).as_deref(), Some(text));
        }
    }
}
