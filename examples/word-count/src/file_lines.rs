//! A spout of the lines of a file; knows each by the byte offset at which it begins, and reads it again there when it failed.
//!
//! Not here: what is done with lines. Invariant: `ahead` stands where the next line begins that was never emitted; what
//! failed is read by a second handle and never moves it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use storm::prelude::*;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// A longer line is an error, not more memory.
const LONGEST_LINE_BYTES: usize = 16 << 20;
/// How often a file that is followed is looked at.
const POLL: Duration = Duration::from_millis(200);

/// A line of a text.
#[tuple]
#[derive(Debug)]
pub struct Line {
    /// Without its end, `\n` or `\r\n`.
    pub text: Text,
}

/// Emits each line of a file of UTF-8 text. Every task reads the whole file, so one should.
///
/// It keeps no record of how far it is: a new start begins with the file's first line.
pub struct FileLines {
    path: PathBuf,
    follow: bool,
    files: Option<Files>,
    /// Offsets of lines to be emitted again; never more than may be pending.
    failed: VecDeque<u64>,
}

struct Files {
    ahead: LineReader,
    again: LineReader,
}

impl FileLines {
    /// The lines of the file at `path`, which is opened by the task that reads it.
    pub fn new(path: &Path) -> Self {
        FileLines { path: path.to_owned(), follow: false, files: None, failed: VecDeque::new() }
    }

    /// Whether to go on with what is appended; a line is then emitted when its end is written.
    pub fn following(self, follow: bool) -> Self {
        FileLines { follow, ..self }
    }
}

impl Spout for FileLines {
    type Output = Line;
    type MessageId = u64;

    fn open(&mut self, _: &Context) -> Result {
        let (ahead, again) = (LineReader::open(&self.path)?, LineReader::open(&self.path)?);
        self.files = Some(Files { ahead, again });
        Ok(())
    }

    fn next(&mut self, out: &mut Roots<'_, Line, u64>) -> Result<Next> {
        let Some(Files { ahead, again }) = &mut self.files else {
            return Err(Error::fatal("asked for lines before the file was opened"));
        };
        if let Some(offset) = self.failed.pop_front() {
            out.emit(again.line_at(offset)?, offset);
            return Ok(Next::Emitted);
        }
        if let Some((offset, line)) = ahead.next_line(self.follow)? {
            out.emit(line, offset);
            return Ok(Next::Emitted);
        }
        if self.follow {
            ahead.check_is_the_same()?;
            return Ok(Next::Idle(POLL));
        }
        Ok(Next::Done)
    }

    fn fail(&mut self, offset: u64, _: &FailReason) {
        self.failed.push_back(offset);
    }
}

/// Reads a file line by line. Its errors are fatal: what was read before could not be read again.
struct LineReader {
    path: PathBuf,
    file: BufReader<File>,
    /// Where the line in `line` begins.
    offset: u64,
    /// What was read of a line: all of it, or what there is so far.
    line: Vec<u8>,
}

impl LineReader {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(LineReader { path: path.to_owned(), file, offset: 0, line: Vec::new() })
    }

    /// The next line and its offset; `None` at the end of the file. What stands there without an end is a line too, unless
    /// only `ended` ones are asked for.
    fn next_line(&mut self, ended: bool) -> Result<Option<(u64, Line)>> {
        let room = (LONGEST_LINE_BYTES - self.line.len()) as u64;
        let read = self.file.by_ref().take(room).read_until(b'\n', &mut self.line);
        read.map_err(|error| unreadable(&self.path, &error))?;
        let text = match self.line.strip_suffix(b"\n") {
            Some(text) => text.strip_suffix(b"\r").unwrap_or(text),
            None if self.line.len() == LONGEST_LINE_BYTES => return Err(self.too_long()),
            None if self.line.is_empty() || ended => return Ok(None),
            None => &self.line,
        };
        let text = str::from_utf8(text).map_err(|error| self.not_text(error.valid_up_to()))?;
        let line = Line { text: text.into() };
        let offset = self.offset;
        self.offset += self.line.len() as u64;
        self.line.clear();
        Ok(Some((offset, line)))
    }

    /// The line that begins at `offset`, once more.
    fn line_at(&mut self, offset: u64) -> Result<Line> {
        self.line.clear();
        self.offset = offset;
        self.file.seek(SeekFrom::Start(offset)).map_err(|error| unreadable(&self.path, &error))?;
        match self.next_line(false)? {
            Some((_, line)) => Ok(line),
            None => Err(self.changed(format_args!("ends before byte {offset}, where a line was to be read again"))),
        }
    }

    /// Whether the path still leads to this file, and all that was read of it is there.
    fn check_is_the_same(&self) -> Result {
        let here = self.file.get_ref().metadata().map_err(|error| unreadable(&self.path, &error))?;
        let read_to = self.offset + self.line.len() as u64;
        if here.len() < read_to {
            return Err(self.changed(format_args!("was cut to {} bytes after {read_to} had been read", here.len())));
        }
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (here.dev(), here.ino()) => Ok(()),
            Ok(_) => Err(self.changed(format_args!("was replaced by another file"))),
            Err(error) => Err(self.changed(format_args!("is gone: {error}"))),
        }
    }

    fn changed(&self, what: std::fmt::Arguments<'_>) -> Error {
        let path = self.path.display();
        Error::fatal(format!(
            "`{path}` {what}; a file that is read may only be appended to: start again to count it anew"
        ))
    }

    fn not_text(&self, valid_bytes: usize) -> Error {
        let (path, at) = (self.path.display(), self.offset + valid_bytes as u64);
        Error::fatal(format!("`{path}` is not UTF-8 text at byte {at}; convert it first, with iconv for example"))
    }

    fn too_long(&self) -> Error {
        let (path, at, most) = (self.path.display(), self.offset, LONGEST_LINE_BYTES >> 20);
        Error::fatal(format!("`{path}` has a line of more than {most} MiB at byte {at}; break it into several"))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::fatal(format!("cannot read `{}`: {error}; check the path", path.display()))
}
