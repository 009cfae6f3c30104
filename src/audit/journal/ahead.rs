//! Which part of a segment is written with zeros before a record needs it. Pure.
//!
//! Room that is only allocated is marked so on the disk, and the first record in a block changes the mark: where a file system has a
//! journal of its own (ext4, XFS) each such sync waits for that journal, too. Of a block that was written before, a sync writes the data
//! alone (fallocate(2); fdatasync(2): metadata only where reading the data needs it). Does not write.

use std::ops::Range;

/// Bytes written ahead at a time: some twenty records.
const STEP: usize = 16 * 1024;
/// What a disk writes at once.
const BLOCK: u64 = 4096;
/// A write of more than this many bytes is slower by itself than what is saved.
const SMALL: u64 = 4096;

/// How far a segment was written, in bytes of the file.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    written: u64,
}

/// Zeros that belong at `start`, where no record is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) start: u64,
    length: usize,
}

impl Fill {
    pub(super) fn zeros(&self) -> &'static [u8] {
        static ZEROS: [u8; STEP] = [0; STEP];
        ZEROS.get(..self.length).unwrap_or(&ZEROS)
    }
}

impl Ahead {
    /// Records were written at `bytes` of a file of `size`: what to fill behind them now, if anything.
    pub(super) fn next(&mut self, bytes: Range<u64>, size: u64) -> Option<Fill> {
        if bytes.end <= self.written {
            return None;
        }
        let start = bytes.end.checked_next_multiple_of(BLOCK)?;
        self.written = start;
        let length = usize::try_from(size.saturating_sub(start)).unwrap_or(STEP).min(STEP);
        if bytes.end.saturating_sub(bytes.start) > SMALL || length == 0 {
            return None;
        }
        self.written = start.saturating_add(length as u64);
        Some(Fill { start, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1024 * 1024;

    /// Bytes that are written, and from where on how many zeros are written with them.
    type Write = (Range<u64>, Option<(u64, usize)>);

    fn check(writes: &[Write]) {
        let mut ahead = Ahead::default();
        for (bytes, expected) in writes {
            let fill = ahead.next(bytes.clone(), SIZE).map(|fill| (fill.start, fill.zeros().len()));
            assert_eq!(fill, *expected, "{bytes:?} of {writes:?}");
        }
    }

    #[test]
    fn single_records_find_their_blocks_written_but_for_one_in_a_step() {
        check(&[
            (84..900, Some((4096, STEP))),
            (900..1_800, None),
            (19_000..20_480, None),
            (20_480..21_300, Some((24_576, STEP))),
        ]);
    }

    #[test]
    fn a_large_batch_is_not_made_larger() {
        check(&[(84..60_000, None), (60_000..60_900, None), (60_900..61_700, Some((65_536, STEP)))]);
    }

    #[test]
    fn nothing_is_filled_behind_the_end() {
        check(&[
            (SIZE - 9_000..SIZE - 8_500, Some((SIZE - 8_192, 8_192))),
            (SIZE - 800..SIZE, None),
            (SIZE..SIZE + 800, None),
        ]);
    }

    #[test]
    fn no_record_is_written_over() {
        let (mut ahead, mut at) = (Ahead::default(), 84);
        while at < SIZE {
            let end = (at + 823).min(SIZE);
            if let Some(fill) = ahead.next(at..end, SIZE) {
                assert!(fill.start >= end, "{fill:?} behind a record that ends at {end}");
            }
            at = end;
        }
    }
}
