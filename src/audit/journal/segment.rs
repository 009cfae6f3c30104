//! One file of the journal: a header, then records, then zeros up to the size it was made with.
//!
//! ```text
//! magic 8 | version u32 | chain 26 | zeros 2 | first seq u64 | hash before it 32 | crc32c u32      (84 bytes)
//! length u32 | crc32c u32 | bytes                                                                   (each record)
//! ```
//!
//! Numbers are little-endian. Does not write: `journal` does.

use super::crc32c::crc32c;
use crate::audit::chain::{Chain, ChainId, Position};
use crate::clock::Timestamp;
use crate::crypto::{Hash, unhex};
use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path};

/// Bytes of a header.
pub(super) const HEADER: usize = 84;
/// Bytes before each record.
pub(super) const PREFIX: usize = 8;
/// The longest record (C2SP tlog-tiles keeps lengths in 16 bits).
pub(in crate::audit) const LONGEST: usize = 65_535;

/// The first bytes of a segment.
pub(in crate::audit) const MAGIC: &[u8; 8] = b"clavigrJ";
const VERSION: u32 = 1;
const WINDOW: usize = 2 * (PREFIX + LONGEST);

/// The name of a segment: names sort as their events do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) struct Name {
    /// Its chain.
    pub(in crate::audit) chain: ChainId,
    /// Number of its first event.
    pub(in crate::audit) first: u64,
}

impl Name {
    /// `CHAIN-SEQ.seg`.
    pub(in crate::audit) fn file(&self) -> String {
        format!("{}-{:020}.seg", self.chain, self.first)
    }

    /// The name that a file's name spells.
    pub(in crate::audit) fn parse(file: &str) -> Option<Self> {
        let (chain, first) = file.strip_suffix(".seg")?.split_once('-')?;
        if first.len() != 20 {
            return None;
        }
        Some(Self { chain: ChainId::parse(chain.as_bytes())?, first: first.parse().ok()? })
    }

    /// The chain before the segment, but for the hash, which the name does not say.
    pub(in crate::audit) fn before(&self) -> Chain {
        let last = Position { chain: self.chain, seq: self.first.saturating_sub(1) };
        Chain { last, hash: [0; 32] }
    }
}

/// The header of a segment that continues `before`.
pub(super) fn header(before: &Chain) -> [u8; HEADER] {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(before.last.chain.as_str().as_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&before.next().to_le_bytes());
    bytes.extend_from_slice(&before.hash);
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes.try_into().unwrap_or([0; HEADER])
}

/// What a header says, if it is whole.
fn parse_header(bytes: &[u8]) -> Option<Chain> {
    let (fields, sum) = bytes.split_last_chunk::<4>()?;
    let (magic, rest) = fields.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (chain, rest) = rest.split_first_chunk::<{ ChainId::LEN }>()?;
    let (_, rest) = rest.split_first_chunk::<2>()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let hash: Hash = rest.try_into().ok()?;
    let known = magic == MAGIC && u32::from_le_bytes(*version) == VERSION;
    if !known || crc32c(fields) != u32::from_le_bytes(*sum) {
        return None;
    }
    let seq = u64::from_le_bytes(*first).checked_sub(1)?;
    Some(Chain { last: Position { chain: ChainId::parse(chain)?, seq }, hash })
}

/// Room for the prefix of a record whose bytes the caller appends next; [`finish`] fills it in.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    start
}

/// Fills in the prefix at `start`; everything after it is the record, which is handed back.
pub(super) fn finish(out: &mut [u8], start: usize) -> Option<&[u8]> {
    let (prefix, record) = out.get_mut(start..)?.split_first_chunk_mut::<PREFIX>()?;
    let [a, b, c, d] = u32::try_from(record.len()).ok()?.to_le_bytes();
    let [e, f, g, h] = crc32c(record).to_le_bytes();
    *prefix = [a, b, c, d, e, f, g, h];
    (record.len() <= LONGEST).then_some(&*record)
}

/// The number an event gives itself.
pub(super) fn seq_of(event: &[u8]) -> Option<u64> {
    std::str::from_utf8(value_of(event, b"\"seq\":\"", 20)?).ok()?.parse().ok()
}

/// The hash an event says the one before it has.
pub(super) fn prev_of(event: &[u8]) -> Option<Hash> {
    unhex(value_of(event, b"\"prev\":\"", 64)?)
}

/// When an event says it happened.
pub(super) fn time_of(event: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(value_of(event, b"\"time\":\"", 27)?).ok()?.parse().ok()
}

/// A quote inside a JSON text is escaped, so the key cannot be found in one.
fn value_of<'a>(event: &'a [u8], key: &[u8], length: usize) -> Option<&'a [u8]> {
    let at = event.windows(key.len()).position(|window| window == key)?.checked_add(key.len())?;
    event.get(at..at.checked_add(length)?)
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::audit) enum Step {
    /// The record of this number; [`SegmentReader::record`] has it.
    Record(u64),
    /// Zeros, or the end of the file.
    End,
    /// Neither.
    Damaged,
}

/// Reads one segment forwards with a bounded buffer, also while it is being written.
pub(in crate::audit) struct SegmentReader {
    file: File,
    before: Chain,
    window: Vec<u8>,
    window_at: u64,
    at: u64,
    next: u64,
    record: Range<usize>,
}

impl SegmentReader {
    /// Opens the segment; `None` if its header is not whole.
    pub(in crate::audit) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = super::disk::options().read(true).open(path)?;
        let mut bytes = [0; HEADER];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        Ok(parse_header(&bytes).map(|before| Self::behind(file, before)))
    }

    /// Opens a segment whose header is damaged; only the hash before its first event is not known then.
    pub(in crate::audit) fn without_header(path: &Path, name: Name) -> io::Result<Self> {
        let file = super::disk::options().read(true).open(path)?;
        Ok(Self::behind(file, name.before()))
    }

    fn behind(file: File, before: Chain) -> Self {
        let start = HEADER as u64;
        Self {
            file,
            next: before.next(),
            before,
            window: Vec::new(),
            window_at: start,
            at: start,
            record: 0..0,
        }
    }

    /// The chain as it stood before this segment.
    pub(in crate::audit) fn before(&self) -> &Chain {
        &self.before
    }

    /// Where the next record starts, or would.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Number of the next record.
    pub(in crate::audit) fn next(&self) -> u64 {
        self.next
    }

    /// The record that the last step found.
    pub(in crate::audit) fn record(&self) -> &[u8] {
        self.window.get(self.record.clone()).unwrap_or_default()
    }

    /// Moves past the next record, if there is one.
    pub(in crate::audit) fn step(&mut self) -> io::Result<Step> {
        let step = self.look()?;
        if matches!(step, Step::Record(_)) {
            return Ok(step);
        }
        // What the window holds may be older than the file.
        self.window.clear();
        self.look()
    }

    fn look(&mut self) -> io::Result<Step> {
        let Some((length, sum)) = self.prefix()? else {
            return Ok(if self.ahead(1)?.iter().all(|b| *b == 0) { Step::End } else { Step::Damaged });
        };
        if (length, sum) == (0, 0) {
            return Ok(Step::End);
        }
        if !self.is_record(length, sum)? {
            return Ok(Step::Damaged);
        }
        let seq = self.next;
        self.pass(length);
        Ok(Step::Record(seq))
    }

    /// Looks for the next whole record behind damage, and stands before it; its number, or `None` if none follows.
    pub(in crate::audit) fn resync(&mut self) -> io::Result<Option<u64>> {
        let start = self.at;
        loop {
            self.at = self.at.saturating_add(1);
            let Some((length, sum)) = self.prefix()? else { break };
            if !(2..=LONGEST).contains(&length) || !self.is_record(length, sum)? {
                continue;
            }
            let wanted = self.next;
            let here = self.ahead(PREFIX.saturating_add(length))?;
            let event = here.get(PREFIX..PREFIX.saturating_add(length)).unwrap_or_default();
            if let Some(seq) = seq_of(event).filter(|seq| *seq >= wanted && event.starts_with(b"{")) {
                self.next = seq;
                return Ok(Some(seq));
            }
        }
        self.at = start;
        Ok(None)
    }

    /// Whether nothing but zeros follows; how a tail is told from damage.
    pub(in crate::audit) fn only_zeros_follow(&self) -> io::Result<bool> {
        let (mut buffer, mut at) = (vec![0; 64 * 1024], self.at);
        loop {
            let read = self.file.read_at(&mut buffer, at)?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.iter().any(|b| *b != 0) {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
            at = at.saturating_add(read as u64);
        }
    }

    /// Whether the file was cut behind its last record: an event ends in `}`, a segment in use in zeros.
    pub(super) fn is_sealed(&self) -> io::Result<bool> {
        let (length, mut last) = (self.file.metadata()?.len(), [0; PREFIX]);
        if length <= HEADER as u64 {
            return Ok(true);
        }
        self.file.read_exact_at(&mut last, length.saturating_sub(PREFIX as u64))?;
        Ok(last != [0; PREFIX])
    }

    fn pass(&mut self, length: usize) {
        let from = usize::try_from(self.at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        let from = from.saturating_add(PREFIX);
        self.record = from..from.saturating_add(length);
        self.at = self.at.saturating_add(PREFIX.saturating_add(length) as u64);
        self.next = self.next.saturating_add(1);
    }

    fn prefix(&mut self) -> io::Result<Option<(usize, u32)>> {
        let Some(&[a, b, c, d, e, f, g, h]) = self.ahead(PREFIX)?.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        Ok(Some((length, u32::from_le_bytes([e, f, g, h]))))
    }

    fn is_record(&mut self, length: usize, sum: u32) -> io::Result<bool> {
        if length == 0 || length > LONGEST {
            return Ok(false);
        }
        let end = PREFIX.saturating_add(length);
        Ok(self.ahead(end)?.get(PREFIX..end).is_some_and(|bytes| crc32c(bytes) == sum))
    }

    /// The bytes from here on: at least `wanted`, unless the file ends before.
    fn ahead(&mut self, wanted: usize) -> io::Result<&[u8]> {
        let offset = usize::try_from(self.at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        if self.window.len() < offset.saturating_add(wanted) {
            self.window.drain(..offset.min(self.window.len()));
            self.window_at = self.at;
            let held = self.window.len();
            self.window.resize(WINDOW, 0);
            let mut filled = held;
            while let Some(room) = self.window.get_mut(filled..).filter(|room| !room.is_empty()) {
                match self.file.read_at(room, self.window_at.saturating_add(filled as u64)) {
                    Ok(0) => break,
                    Ok(read) => filled = filled.saturating_add(read),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.window.truncate(filled);
        }
        let offset = usize::try_from(self.at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        Ok(self.window.get(offset..).unwrap_or_default())
    }
}
