//! How far one sink has come, kept beside the journal so that a restart goes on from there.
//!
//! Written aside, synced and renamed: it is the old place or the new one, never half of one.

use crate::{
    audit::{
        chain::{ChainId, Position},
        journal::disk::options,
    },
    name::SinkName,
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The place of one sink.
pub(in crate::audit) struct Cursor {
    dir: PathBuf,
    file: PathBuf,
    saved: Option<Position>,
}

impl Cursor {
    /// Reads the place of `sink`; without one, or with a damaged one, the sink starts with the oldest event there is.
    pub(in crate::audit) fn open(dir: &Path, sink: &SinkName) -> io::Result<Self> {
        let file = dir.join(format!("cursor-{sink}"));
        let mut text = String::new();
        let saved = match options().read(true).open(&file) {
            Ok(file) => file.take(256).read_to_string(&mut text).ok().and_then(|_| parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { dir: dir.to_owned(), file, saved })
    }

    /// The place on disk.
    pub(in crate::audit) fn saved(&self) -> Option<Position> {
        self.saved
    }

    /// Puts `place` on disk, unless it is there already.
    pub(super) fn save(&mut self, place: Position) -> io::Result<()> {
        if self.saved == Some(place) {
            return Ok(());
        }
        let aside = self.file.with_extension("new");
        let mut file = options().write(true).create(true).truncate(true).open(&aside)?;
        file.write_all(format!("{}-{:020}\n", place.chain, place.seq).as_bytes())?;
        file.sync_data()?;
        fs::rename(&aside, &self.file)?;
        File::open(&self.dir)?.sync_all()?;
        self.saved = Some(place);
        Ok(())
    }
}

fn parse(text: &str) -> Option<Position> {
    let (chain, seq) = text.strip_suffix('\n')?.split_once('-')?;
    Some(Position { chain: ChainId::parse(chain.as_bytes())?, seq: seq.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_finds_its_place_again() {
        let dir = tempfile::tempdir().unwrap();
        let name = SinkName::new("console").unwrap();
        let mut cursor = Cursor::open(dir.path(), &name).unwrap();
        assert_eq!(cursor.saved(), None);
        let place = Position { chain: ChainId::new(7, [7; 10]), seq: 41 };
        cursor.save(place).unwrap();
        assert_eq!(Cursor::open(dir.path(), &name).unwrap().saved(), Some(place));
        fs::write(dir.path().join("cursor-console"), "\0\0\0").unwrap();
        assert_eq!(Cursor::open(dir.path(), &name).unwrap().saved(), None);
    }
}
