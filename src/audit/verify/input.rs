//! Where events are read from: a journal's directory, single segments, JSON lines that a sink printed, standard input.
//!
//! Finds what only a file can tell (checksums, padding, a cut line). Does not judge events. Reads in pieces of bounded size,
//! and of segments no link is followed.

use crate::audit::{
    chain::{Chain, Position},
    journal::{
        segment::{LONGEST, MAGIC, Name, SegmentReader, Step},
        walk::list,
    },
};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Bytes of JSON lines that are read at once.
const BUFFER: usize = 256 * 1024;
/// How often the end of a journal is looked at again before it is called damaged: its agent may be writing it.
const LOOKS: u32 = 10;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(3);

/// What is said of bytes that are no event.
const DAMAGED: &str = "bytes that are no event, or do not fit their checksum";
/// The same at the end of everything: a power cut can leave them too.
const TORN: &str = "bytes behind the last event that are none, or do not fit their checksum (if the power was cut, the next \
                    start of the agent cuts them off)";

/// Something to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A journal's directory, a segment, or a file of JSON lines.
    Path(PathBuf),
    /// JSON lines from standard input.
    Stdin,
}

/// An input that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not there, or not for us.
    #[error("reading {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory without segments.
    #[error("{} holds no journal", path.display())]
    NoJournal {
        /// Which one.
        path: PathBuf,
    },
    /// Standard input broke off.
    #[error("reading standard input")]
    Stdin {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The other side of an export.
    #[error("writing the events")]
    Write {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Who is told what stands in the inputs.
pub(super) trait Sees {
    /// Lines of a sink begin.
    fn lines_begin(&mut self);
    /// A segment begins, which continues `before` by its header.
    fn segment_begins(&mut self, before: &Chain);
    /// The bytes of one event; in a segment, with the place where they stand.
    fn line(&mut self, bytes: &[u8], place: Option<Position>);
    /// Bytes that are no event stand where the event of `place` should.
    fn damaged(&mut self, place: Position, what: &str);
    /// Something ends before its end.
    fn cut(&mut self, what: &str);
    /// Nothing bad, and good to know.
    fn note(&mut self, text: String);
}

/// One file and its first event, if that can be told.
struct Source {
    path: PathBuf,
    first: Option<Position>,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Segment,
    Lines,
}

/// Reads everything, oldest first.
pub(super) fn read(inputs: &[Input], sees: &mut dyn Sees) -> Result<(), Unreadable> {
    let mut sources = Vec::new();
    for input in inputs {
        match input {
            Input::Path(path) if path.is_dir() => read_journal(path, sees)?,
            // What is read can be read once only: no look before.
            Input::Path(path) if is_stream(path) => {
                let done = File::open(path).and_then(|file| read_lines(file, sees));
                done.map_err(|source| Unreadable::Read { path: path.clone(), source })?;
            }
            Input::Path(path) => sources.push(look(path)?),
            Input::Stdin => {
                read_lines(io::stdin().lock(), sees).map_err(|source| Unreadable::Stdin { source })?;
            }
        }
    }
    sources.sort_by_key(|source| source.first);
    let segments: Vec<Name> = sources.iter().filter_map(Source::name).collect();
    for source in &sources {
        let next = source.name().and_then(|name| following(&segments, name));
        let done = match source.kind {
            Kind::Segment => read_segment(&source.path, None, next, sees),
            Kind::Lines => File::open(&source.path).and_then(|file| read_lines(file, sees)),
        };
        done.map_err(|error| Unreadable::Read { path: source.path.clone(), source: error })?;
    }
    Ok(())
}

/// Writes every event of `inputs` as a line of its own; gives what could not be read.
///
/// # Errors
/// An input cannot be read at all, or nobody takes the lines.
pub fn export(inputs: &[Input], out: &mut dyn Write) -> Result<Vec<String>, Unreadable> {
    let mut export = Export { out, failed: None, faults: Vec::new() };
    read(inputs, &mut export)?;
    match export.failed {
        None => Ok(export.faults),
        Some(source) => Err(Unreadable::Write { source }),
    }
}

struct Export<'a> {
    out: &'a mut dyn Write,
    failed: Option<io::Error>,
    faults: Vec<String>,
}

impl Sees for Export<'_> {
    fn lines_begin(&mut self) {}

    fn segment_begins(&mut self, _: &Chain) {}

    fn line(&mut self, bytes: &[u8], _: Option<Position>) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).and_then(|()| self.out.write_all(b"\n")).err();
        }
    }

    fn damaged(&mut self, place: Position, what: &str) {
        self.note(format!("event {} of {}: {what}", place.seq, place.chain));
    }

    fn cut(&mut self, what: &str) {
        self.note(what.to_owned());
    }

    fn note(&mut self, text: String) {
        if self.faults.len() < 1_000 {
            self.faults.push(text);
        }
    }
}

impl Source {
    /// The name that a segment should have.
    fn name(&self) -> Option<Name> {
        let Position { chain, seq } = self.first?;
        (self.kind == Kind::Segment).then_some(Name { chain, first: seq })
    }
}

fn following(names: &[Name], name: Name) -> Option<Name> {
    names.get(names.partition_point(|other| *other <= name)).copied()
}

/// Whether `path` is a pipe or the like, as in `verify <(zcat events.gz)`.
fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// What a file is, and its first event.
fn look(path: &Path) -> Result<Source, Unreadable> {
    let failed = |source: io::Error| Unreadable::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    (&file).take(LONGEST as u64).read_to_end(&mut head).map_err(failed)?;
    let is_segment = head.starts_with(MAGIC) || path.extension().is_some_and(|end| end == "seg");
    if !is_segment {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = super::line::Line::read(line).ok().and_then(|line| position(&line));
        return Ok(Source { path: path.to_owned(), first, kind: Kind::Lines });
    }
    let named = path.file_name().and_then(|name| name.to_str()).and_then(Name::parse);
    let before = match SegmentReader::open(path).map_err(failed)? {
        Some(reader) => *reader.before(),
        None => {
            let Some(name) = named else {
                let source = io::Error::new(
                    io::ErrorKind::InvalidData,
                    "its header is damaged, and its name is not CHAIN-NUMBER.seg",
                );
                return Err(failed(source));
            };
            name.before()
        }
    };
    let first = Position { chain: before.last.chain, seq: before.next() };
    Ok(Source { path: path.to_owned(), first: Some(first), kind: Kind::Segment })
}

fn position(line: &super::line::Line<'_>) -> Option<Position> {
    let chain = crate::audit::chain::ChainId::parse(line.chain)?;
    Some(Position { chain, seq: std::str::from_utf8(line.seq).ok()?.parse().ok()? })
}

fn read_journal(dir: &Path, sees: &mut dyn Sees) -> Result<(), Unreadable> {
    let failed = |source: io::Error| Unreadable::Read { path: dir.to_owned(), source };
    let names = list(dir).map_err(failed)?;
    if names.is_empty() {
        return Err(Unreadable::NoJournal { path: dir.to_owned() });
    }
    let mut aside = 0_u32;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        aside = aside.saturating_add(u32::from(path.extension().is_some_and(|end| end == "bad")));
    }
    if aside > 0 {
        sees.note(format!("{aside} files of damaged bytes were set aside by the agent (*.bad)"));
    }
    for name in &names {
        let path = dir.join(name.file());
        match read_segment(&path, Some(*name), following(&names, *name), sees) {
            // Between the listing and now, the agent may have deleted what is too old.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|source| Unreadable::Read { path, source })?,
        }
    }
    Ok(())
}

/// Reads one segment up to the first event of the one that follows in its chain: that one was begun because the end of this
/// one could not be trusted.
fn read_segment(path: &Path, name: Option<Name>, next: Option<Name>, sees: &mut dyn Sees) -> io::Result<()> {
    let named = name.or_else(|| path.file_name().and_then(|name| name.to_str()).and_then(Name::parse));
    let (mut reader, is_whole) = match (SegmentReader::open(path)?, named) {
        (Some(reader), _) => (reader, true),
        (None, Some(name)) => (SegmentReader::without_header(path, name)?, false),
        (None, None) => return Err(io::ErrorKind::InvalidData.into()),
    };
    let before = *reader.before();
    let chain = before.last.chain;
    let first = Position { chain, seq: before.next() };
    if is_whole {
        sees.segment_begins(&before);
    } else {
        sees.damaged(first, "the header of its segment is damaged");
    }
    if named.is_some_and(|name| name.before().last != before.last) {
        sees.damaged(first, "its segment has the name of another");
    }
    let end = next.filter(|next| next.chain == chain).map(|next| next.first);
    let mut looks = 0;
    while end.is_none_or(|end| reader.next() < end) {
        let place = Position { chain, seq: reader.next() };
        match reader.step()? {
            Step::Record(_) => {
                sees.line(reader.record(), Some(place));
                continue;
            }
            Step::End if reader.only_zeros_follow()? => return Ok(()),
            Step::End | Step::Damaged if next.is_none() && looks < LOOKS => {
                looks = looks.saturating_add(1);
                thread::park_timeout(PAUSE);
            }
            Step::End | Step::Damaged => {
                let follows = reader.resync()?.is_some();
                sees.damaged(place, if follows || next.is_some() { DAMAGED } else { TORN });
                if !follows {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn read_lines(mut from: impl Read, sees: &mut dyn Sees) -> io::Result<()> {
    sees.lines_begin();
    let mut reader = BufReader::with_capacity(BUFFER, &mut from);
    // The beginning of a line whose end is not in the buffer.
    let mut begun: Vec<u8> = Vec::new();
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let mut rest = buffer;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(at);
            if begun.is_empty() {
                give(line, sees);
            } else {
                append(&mut begun, line);
                give(&begun, sees);
                begun.clear();
            }
            rest = after.get(1..).unwrap_or_default();
        }
        append(&mut begun, rest);
        let used = buffer.len();
        reader.consume(used);
    }
    if !begun.is_empty() {
        match super::line::Line::read(&begun) {
            Ok(_) => give(&begun, sees),
            Err(_) => sees.cut("the last line is cut off"),
        }
    }
    Ok(())
}

/// No more of a line is kept than is needed to see that it is too long.
fn append(begun: &mut Vec<u8>, part: &[u8]) {
    let room = LONGEST.saturating_add(1).saturating_sub(begun.len());
    begun.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
}

fn give(line: &[u8], sees: &mut dyn Sees) {
    // One that is too long is no canonical JSON, cut as it is.
    sees.line(line.get(..LONGEST).unwrap_or(line), None);
}
