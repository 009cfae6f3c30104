//! Which addresses may be called: a name that leads to the inside of the network is not followed there.
//!
//! Pure. Does not resolve names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a range of addresses")]
pub struct NotACidr;

impl Cidr {
    /// Reads `10.0.0.0/8`; a bare address is the range of itself.
    ///
    /// # Errors
    /// [`NotACidr`], also where a bit is set behind the prefix.
    pub fn parse(text: &str) -> Result<Self, NotACidr> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| NotACidr)?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width).ok_or(NotACidr)?,
            None => width,
        };
        let range = Self { network, bits };
        if number(range.network) & !range.mask() == 0 { Ok(range) } else { Err(NotACidr) }
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4() && number(address) & self.mask() == number(self.network)
    }

    /// Ones where the prefix is; of an IPv4 address the lowest 32 bits count.
    fn mask(self) -> u128 {
        let width: u32 = if self.network.is_ipv4() { 32 } else { 128 };
        let all = u128::MAX >> (128 - width);
        all & !u128::MAX.checked_shr(u32::from(self.bits) + 128 - width).unwrap_or_default()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Where an address came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The config says it in so many digits.
    Literal,
    /// A name leads there at the moment.
    Name,
}

/// Whether `address` may be called. Loopback only by the config's own word: as a literal in `url`, and in `allowed`.
#[must_use]
pub fn may_be_called(address: IpAddr, origin: Origin, allowed: &[Cidr]) -> bool {
    let address = unwrapped(address);
    let is_allowed = || allowed.iter().any(|range| range.contains(address));
    match class(address) {
        Class::Public => true,
        Class::Private => is_allowed(),
        Class::Loopback => origin == Origin::Literal && is_allowed(),
        Class::Never => false,
    }
}

enum Class {
    Public,
    Private,
    Loopback,
    Never,
}

/// The address that a translated or mapped one leads to (RFC 4291 section 2.5.5, RFC 6052, RFC 3056, RFC 4380).
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        _ => address,
    }
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [127, ..] => Class::Loopback,
        // Metadata of clouds, where a carrier's or a public range has them.
        [100, 100, 100, 200] | [168, 63, 129, 16] => Class::Never,
        [0 | 224..=255, ..] | [169, 254, ..] => Class::Never,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18 | 19, ..] => {
            Class::Private
        }
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0xfd00, 0xec2, ..] | [0, 0, 0, 0, 0, 0, 0, 0] => Class::Never,
        [0xfe80..=0xffff, ..] => Class::Never,
        [0xfc00..=0xfdff, ..] => Class::Private,
        _ => Class::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, allowed: &[&str], expected: bool) {
        let allowed: Vec<_> = allowed.iter().map(|text| Cidr::parse(text).unwrap()).collect();
        assert_eq!(may_be_called(address.parse().unwrap(), Origin::Name, &allowed), expected, "{address}");
    }

    #[test]
    fn public_addresses_may_be_called() {
        for address in [
            "93.184.216.34",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2002:5db8:d822::1",
        ] {
            check(address, &[], true);
        }
    }

    #[test]
    fn private_ones_only_if_the_config_allows_them() {
        for address in
            ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fc00::1", "fd12::1"]
        {
            check(address, &[], false);
        }
        check("10.1.2.3", &["10.1.0.0/16"], true);
        check("10.2.2.3", &["10.1.0.0/16"], false);
        check("::ffff:10.1.2.3", &["10.1.0.0/16"], true);
        check("fd12::1", &["fd00::/8"], true);
        check("10.1.2.3", &["fd00::/8", "10.1.2.3"], true);
    }

    #[test]
    fn metadata_and_the_machine_itself_never_whatever_they_are_wrapped_in() {
        let all = ["0.0.0.0/0", "::/0"];
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "168.63.129.16",
            "100.100.100.200",
            "fd00:ec2::254",
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:1:2:3:4:5601:5601",
            "::ffff:127.0.0.1",
        ] {
            check(address, &all, false);
        }
    }

    #[test]
    fn loopback_by_the_configs_own_digits_and_its_allowance_only() {
        let (address, range) = ("127.0.0.1".parse().unwrap(), [Cidr::parse("127.0.0.0/8").unwrap()]);
        assert!(may_be_called(address, Origin::Literal, &range));
        assert!(!may_be_called(address, Origin::Literal, &[]));
        assert!(!may_be_called(address, Origin::Name, &range));
        assert!(!may_be_called("169.254.169.254".parse().unwrap(), Origin::Literal, &range));
    }

    #[test]
    fn a_range_is_what_its_prefix_says() {
        for bad in ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/-1", "x/8", "fd00::/129", "10.0.0.0/8/8"] {
            assert_eq!(Cidr::parse(bad), Err(NotACidr), "{bad}");
        }
        for (range, inside, outside) in [
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("1.2.3.4", "1.2.3.4", "1.2.3.5"),
            ("::/0", "fe80::1", "1.2.3.4"),
            ("1.2.3.4/31", "1.2.3.5", "1.2.3.6"),
        ] {
            let range = Cidr::parse(range).unwrap();
            assert!(
                range.contains(inside.parse().unwrap()) && !range.contains(outside.parse().unwrap()),
                "{range:?}"
            );
        }
    }
}
