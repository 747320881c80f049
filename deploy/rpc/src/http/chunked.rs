//! The chunked coding of a body (RFC 9112, 7.1), read strictly.
//!
//! A chunk's size is one to fifteen hexadecimal digits and nothing else: no sign, no `0x`, no space.
//! Extensions and trailer fields are read over, since nothing here gives them a meaning, but they
//! are work that does not count as body, so both are bounded: a peer could otherwise keep a box
//! busy with one-byte chunks that carry long extensions.

use bytes::{Bytes, BytesMut};

use super::HttpError;

/// A body that comes in chunks.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
}

/// What could be taken from the input.
#[derive(Debug)]
pub(super) enum Piece {
    /// Nothing: more input is needed.
    None,
    /// A piece of the body.
    Data(Bytes),
    /// The body has ended, and what follows in the input belongs to the next request.
    End,
}

#[derive(Debug)]
enum State {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailer,
    End,
}

impl Chunked {
    pub(super) fn new() -> Chunked {
        Chunked {
            state: State::Size,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
        }
    }

    /// Takes what it can from the front of `input`; `max` is what the body may still grow by.
    pub(super) fn take(&mut self, input: &mut BytesMut, max: u64) -> Result<Piece, HttpError> {
        loop {
            match &mut self.state {
                State::Size => {
                    let Some(line) = line(input, SIZE_LINE_BYTES_MAX)
                        .map_err(|length| size_line_error(&input[..length]))?
                    else {
                        return Ok(Piece::None);
                    };
                    let size = self.read_size(&input[..line])?;
                    drop(input.split_to(line + 2));
                    if size > max {
                        return Err(HttpError::BodyTooLong { max });
                    }
                    self.state = match size {
                        0 => State::Trailer,
                        left => State::Data { left },
                    };
                }
                State::Data { left: 0 } => self.state = State::DataEnd,
                State::Data { left } => {
                    let ready = (*left).min(input.len() as u64);
                    if ready == 0 {
                        return Ok(Piece::None);
                    }
                    *left -= ready;
                    // It is at most the length of `input`, which is a usize.
                    return Ok(Piece::Data(input.split_to(ready as usize).freeze()));
                }
                State::DataEnd => match input.get(..2) {
                    Some(b"\r\n") => {
                        drop(input.split_to(2));
                        self.state = State::Size;
                    }
                    None if input.is_empty() || input[0] == b'\r' => return Ok(Piece::None),
                    _ => return Err(HttpError::ChunkEnd),
                },
                State::Trailer => {
                    let left = TRAILER_BYTES_MAX - self.trailer_bytes;
                    let Some(length) = line(input, left).map_err(|_| HttpError::Trailer)? else {
                        return Ok(Piece::None);
                    };
                    if length == 0 {
                        drop(input.split_to(2));
                        self.state = State::End;
                    } else {
                        check_trailer(&input[..length])?;
                        self.trailer_fields += 1;
                        if self.trailer_fields > TRAILER_FIELDS_MAX {
                            return Err(HttpError::Trailer);
                        }
                        drop(input.split_to(length + 2));
                        self.trailer_bytes = TRAILER_BYTES_MAX.min(self.trailer_bytes + length + 2);
                    }
                }
                State::End => return Ok(Piece::End),
            }
        }
    }

    fn read_size(&mut self, line: &[u8]) -> Result<u64, HttpError> {
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        if digits == 0 || digits > SIZE_DIGITS_MAX {
            return Err(HttpError::ChunkSize);
        }
        let extension = &line[digits..];
        if !extension.is_empty() {
            if extension[0] != b';' {
                return Err(HttpError::ChunkSize);
            }
            self.extension_bytes += extension.len();
            if self.extension_bytes > EXTENSION_BYTES_MAX {
                return Err(HttpError::ChunkExtension);
            }
        }
        std::str::from_utf8(&line[..digits])
            .ok()
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or(HttpError::ChunkSize)
    }
}

/// The length of the first line of `input` without its CR LF; `None` if its end has not come. The
/// error is how many bytes were looked at when the line became too long or malformed.
fn line(input: &[u8], max: usize) -> Result<Option<usize>, usize> {
    for (at, &byte) in input.iter().enumerate() {
        if at > max {
            return Err(at);
        }
        match byte {
            b'\r' => {
                return match input.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some(at)),
                    Some(_) => Err(at),
                };
            }
            b'\t' | b' '..=b'~' => {}
            _ => return Err(at),
        }
    }
    Ok(None)
}

/// Which part of a chunk's first line was wrong: its size, or what follows it.
fn size_line_error(seen: &[u8]) -> HttpError {
    if seen.contains(&b';') {
        HttpError::ChunkExtension
    } else {
        HttpError::ChunkSize
    }
}

/// A field is a name of token characters, a colon and anything.
fn check_trailer(line: &[u8]) -> Result<(), HttpError> {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    match line.iter().position(|byte| *byte == b':') {
        Some(colon) if colon > 0 && line[..colon].iter().all(token) => Ok(()),
        _ => Err(HttpError::Trailer),
    }
}

/// Sixteen digits would let a size wrap around once something is added to it.
const SIZE_DIGITS_MAX: usize = 15;

/// One chunk's size and extension.
const SIZE_LINE_BYTES_MAX: usize = 256;

/// The extensions of all chunks of one body.
const EXTENSION_BYTES_MAX: usize = 4096;

/// All trailer fields of one body.
const TRAILER_BYTES_MAX: usize = 4096;

/// As many as a head has without being told otherwise.
const TRAILER_FIELDS_MAX: usize = 64;
