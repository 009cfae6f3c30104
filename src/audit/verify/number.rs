//! Numbers as RFC 8785 writes them (section 3.2.2.3, which is ECMAScript's own way).
//!
//! Pure. Events have whole numbers only; others are read all the same, since the canonical form allows them.

/// Digits that every double keeps.
const EXACT_DIGITS: usize = 15;

/// Whether `token` is how RFC 8785 writes the number that it spells.
pub(super) fn is_canonical(token: &[u8]) -> bool {
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    if !digits.is_empty() && digits.len() <= EXACT_DIGITS && digits.iter().all(u8::is_ascii_digit) {
        return !digits.starts_with(b"0") || token == b"0";
    }
    let number = std::str::from_utf8(token).ok().and_then(|text| text.parse::<f64>().ok());
    number.is_some_and(|number| number.is_finite() && spell(number).as_bytes() == token)
}

/// ECMAScript's Number::toString (ECMA-262, section 6.1.6.1.20), of a finite number.
fn spell(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    // The shortest digits that read back as the same number, and where the point stands.
    let text = format!("{:e}", number.abs());
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = digits.replace('.', "");
    let point = exponent.parse::<i64>().unwrap_or(0).saturating_add(1);
    let length = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    let split = |at: i64| digits.split_at_checked(usize::try_from(at).unwrap_or(0)).unwrap_or((&digits, ""));
    let body = match point {
        1..=21 if length <= point => format!("{digits}{}", zeros(point.saturating_sub(length))),
        1..=21 => {
            let (whole, rest) = split(point);
            format!("{whole}.{rest}")
        }
        -5..=0 => format!("0.{}{digits}", zeros(point.saturating_neg())),
        _ => {
            let power = point.saturating_sub(1);
            let sign = if power < 0 { '-' } else { '+' };
            let (first, rest) = split(1);
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{first}{dot}{rest}e{sign}{}", power.unsigned_abs())
        }
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bits: u64, expected: &str) {
        let number = f64::from_bits(bits);
        assert_eq!(spell(number), expected);
        assert!(is_canonical(expected.as_bytes()), "{expected}");
    }

    #[test]
    fn the_samples_of_rfc_8785_appendix_b() {
        for (bits, expected) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        ] {
            check(bits, expected);
        }
    }

    #[test]
    fn other_spellings_are_not_canonical() {
        for bad in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "1.",
            ".5",
            "1.0",
            "1e5",
            "1E+21",
            "+1",
            "9007199254740993",
            "1e999",
            "-",
        ] {
            assert!(!is_canonical(bad.as_bytes()), "{bad}");
        }
    }
}
