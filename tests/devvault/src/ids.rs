//! Tokens, accessors and ids from a seeded generator: two runs of one test see the same strings.
//! They look like Vault's and are worth nothing.

/// A splitmix64 stream.
#[derive(Debug, Clone)]
pub(crate) struct Ids(u64);

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl Ids {
    pub(crate) fn seeded(seed: u64) -> Ids {
        Ids(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn letters(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| {
                let at = usize::try_from(self.number() % LETTERS.len() as u64).unwrap_or(0);
                LETTERS.get(at).copied().map_or('A', char::from)
            })
            .collect()
    }

    pub(crate) fn uuid(&mut self) -> String {
        let (a, b) = (self.number(), self.number());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | ((b >> 48) & 0x3fff),
            b & 0xffff_ffff_ffff
        )
    }

    pub(crate) fn service_token(&mut self) -> String {
        format!("hvs.CAESI{}", self.letters(86))
    }

    pub(crate) fn batch_token(&mut self) -> String {
        format!("hvb.AAAAAQ{}", self.letters(132))
    }

    pub(crate) fn accessor(&mut self) -> String {
        self.letters(24)
    }
}
