//! A JSON text as a tree, and a way to walk it that can always say where it is.
//!
//! Reading straight into structures would leave it to the parser to word every refusal, and
//! would let a key pass that occurs twice in a place that nobody looks at. The texts are small,
//! so a tree costs nothing. The parser, serde_json, limits nesting to 128 by itself; the length
//! of the text is limited here, and with it the size of the tree.

use std::collections::HashSet;
use std::fmt;

use num_bigint::BigUint;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::prime::is_below;
use super::super::{File, FormatError};

/// Reads a text of at most `expected_max` bytes.
pub(super) fn read(file: File, text: &[u8], expected_max: usize) -> Result<Tree, FormatError> {
    let got = text.len();
    if got > expected_max {
        return Err(FormatError::JsonSize {
            file,
            expected_max,
            got,
        });
    }
    let root: Node = serde_json::from_slice(text).map_err(|error| FormatError::Json {
        file,
        why: error.to_string(),
    })?;
    let tree = Tree { file, root };
    tree.root().no_key_twice()?;
    Ok(tree)
}

/// A whole text.
pub(super) struct Tree {
    file: File,
    root: Node,
}

impl Tree {
    pub(super) fn root(&self) -> At<'_> {
        At {
            file: self.file,
            path: String::new(),
            node: &self.root,
        }
    }
}

/// A place in a tree, and the way to it.
pub(super) struct At<'a> {
    file: File,
    path: String,
    node: &'a Node,
}

impl<'a> At<'a> {
    /// What a key leads to, if it is there.
    pub(super) fn find(&self, key: &str) -> Result<Option<At<'a>>, FormatError> {
        let Node::Object(entries) = self.node else {
            return Err(self.kind("an object"));
        };
        let entry = entries.iter().find(|(name, _)| name == key);
        Ok(entry.map(|(_, node)| At {
            file: self.file,
            path: self.below(key),
            node,
        }))
    }

    /// What a key leads to.
    pub(super) fn key(&self, key: &str) -> Result<At<'a>, FormatError> {
        let (file, path) = (self.file, self.below(key));
        self.find(key)?
            .ok_or(FormatError::JsonKeyMissing { file, path })
    }

    /// The elements of an array.
    pub(super) fn elements(&self) -> Result<Vec<At<'a>>, FormatError> {
        let Node::Array(nodes) = self.node else {
            return Err(self.kind("an array"));
        };
        let path = |i| format!("{}[{i}]", self.path);
        let nodes = nodes.iter().enumerate();
        Ok(nodes
            .map(|(i, node)| At {
                file: self.file,
                path: path(i),
                node,
            })
            .collect())
    }

    /// The elements of an array of `N`.
    pub(super) fn array<const N: usize>(&self) -> Result<[At<'a>; N], FormatError> {
        self.elements()?.try_into().map_err(|elements: Vec<_>| {
            let (expected, got) = (N as u64, elements.len() as u64);
            self.fault(|file, path| FormatError::JsonLength {
                file,
                path,
                expected,
                got,
            })
        })
    }

    pub(super) fn text(&self) -> Result<&'a str, FormatError> {
        match self.node {
            Node::Text(text) => Ok(text),
            _ => Err(self.kind("a string")),
        }
    }

    /// A whole number that counts something.
    pub(super) fn count(&self) -> Result<u64, FormatError> {
        match self.node {
            Node::Number(Some(count)) => Ok(*count),
            _ => Err(self.kind("a count")),
        }
    }

    /// A string of decimal digits whose number is below `modulus`: in little-endian bytes, as
    /// many as the modulus has.
    pub(super) fn decimal(&self, field: char, modulus: &[u8]) -> Result<Vec<u8>, FormatError> {
        let digits = self.text()?.as_bytes();
        let plain = match digits {
            [] => false,
            [b'0'] => true,
            [first, ..] => *first != b'0' && digits.iter().all(u8::is_ascii_digit),
        };
        if !plain {
            let got = start_of(self.text()?);
            return Err(self.fault(|file, path| FormatError::Decimal { file, path, got }));
        }
        // A byte is 2.41 digits, so what is longer than this is larger than any modulus; the
        // parser need not see it.
        let number = match digits.len() <= 5 * modulus.len() / 2 {
            true => BigUint::parse_bytes(digits, 10),
            false => None,
        };
        let mut bytes = number.map_or(Vec::new(), |number| number.to_bytes_le());
        let fits = !bytes.is_empty() && bytes.len() <= modulus.len();
        bytes.resize(modulus.len(), 0);
        if !fits || !is_below(&bytes, modulus) {
            return Err(self.fault(|file, path| FormatError::Modulus { file, path, field }));
        }
        Ok(bytes)
    }

    /// An error about this place.
    pub(super) fn fault(&self, make: impl FnOnce(File, String) -> FormatError) -> FormatError {
        let path = match self.path.is_empty() {
            true => "the whole text".to_owned(),
            false => self.path.clone(),
        };
        make(self.file, path)
    }

    fn kind(&self, expected: &'static str) -> FormatError {
        let got = match self.node {
            Node::Null => "null",
            Node::Bool => "a truth value",
            Node::Number(_) => "a number",
            Node::Text(_) => "a string",
            Node::Array(_) => "an array",
            Node::Object(_) => "an object",
        };
        self.fault(|file, path| FormatError::JsonKind {
            file,
            path,
            expected,
            got,
        })
    }

    fn below(&self, key: &str) -> String {
        let key = start_of(key);
        match self.path.is_empty() {
            true => key,
            false => format!("{}.{key}", self.path),
        }
    }

    fn no_key_twice(&self) -> Result<(), FormatError> {
        match self.node {
            Node::Object(entries) => {
                let mut seen = HashSet::new();
                for (key, node) in entries {
                    let path = self.below(key);
                    if !seen.insert(key) {
                        return Err(FormatError::JsonKeyTwice {
                            file: self.file,
                            path,
                        });
                    }
                    At {
                        file: self.file,
                        path,
                        node,
                    }
                    .no_key_twice()?;
                }
                Ok(())
            }
            Node::Array(_) => self.elements()?.iter().try_for_each(At::no_key_twice),
            Node::Null | Node::Bool | Node::Number(_) | Node::Text(_) => Ok(()),
        }
    }
}

/// The start of a stranger's text, short enough for an error message.
pub(super) fn start_of(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A JSON value. Numbers are kept where they count something and are forgotten otherwise.
enum Node {
    Null,
    Bool,
    Number(Option<u64>),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(Some(number)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Number(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Number(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Node::Array(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = items.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Object(entries))
    }
}
