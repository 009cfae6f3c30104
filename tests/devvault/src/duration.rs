//! Durations as Vault reads them (`60`, `"60"`, `"90s"`, `"1h30m"`, `"2d"`) and as Go prints them. Pure.

use std::time::Duration;

use serde_json::Value;

/// Vault's system default for `default_lease_ttl` and `max_lease_ttl`: 768 h.
pub(crate) const SYSTEM_TTL: Duration = Duration::from_secs(768 * 3600);

/// Reads a JSON value as a duration; a bare number is seconds. `None` is unreadable.
pub(crate) fn read(value: &Value) -> Option<Duration> {
    match value {
        Value::Number(n) => n.as_u64().map(Duration::from_secs),
        Value::String(text) => parse(text),
        _ => None,
    }
}

/// Reads one or more of number and unit (`ns us ms s m h d w`); a bare number is seconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Duration::ZERO);
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match rest.get(..end)? {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(amount * unit).ok()?)?;
        rest = rest.get(end..)?;
    }
    Some(total)
}

/// A duration as Vault's warnings print it: `768h`, `1m30s`, `8s`; parts that are zero at the end are left out.
pub(crate) fn short_text(d: Duration) -> String {
    let all = d.as_secs();
    let parts = [(all / 3600, "h"), (all / 60 % 60, "m"), (all % 60, "s")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_vault_reads_them() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse(text), expected.map(Duration::from_millis), "{text}");
        };
        check("60", Some(60_000));
        check("1h30m", Some(5_400_000));
        check("250ms", Some(250));
        check("2d", Some(172_800_000));
        check("1.5s", Some(1_500));
        check("", Some(0));
        check("soon", None);
        check("5 apples", None);
    }

    #[test]
    fn durations_are_printed_as_vault_prints_them() {
        let check =
            |seconds: u64, expected: &str| assert_eq!(short_text(Duration::from_secs(seconds)), expected);
        check(0, "0s");
        check(8, "8s");
        check(90, "1m30s");
        check(300, "5m");
        check(2_764_800, "768h");
    }
}
