//! The container of zkey, wtns and r1cs files, taken apart and put together with no checks at
//! all, so that a test can forge what no honest program would write.

/// A file as its magic, version and sections in their order.
#[derive(Debug, Clone)]
pub struct Binfile {
    /// Four letters.
    pub magic: [u8; 4],
    /// The format's version.
    pub version: u32,
    /// The sections in the order of the file.
    pub sections: Vec<Section>,
}

/// One section.
#[derive(Debug, Clone)]
pub struct Section {
    /// The number that says what it holds.
    pub kind: u32,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Binfile {
    /// Takes a well-formed file apart; panics on any other.
    pub fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut sections = Vec::new();
        let mut at = 12;
        for _ in 0..word(8) {
            let size = u64::from_le_bytes(bytes[at + 4..at + 12].try_into().unwrap()) as usize;
            sections.push(Section {
                kind: word(at),
                payload: bytes[at + 12..at + 12 + size].to_vec(),
            });
            at += 12 + size;
        }
        assert_eq!(at, bytes.len(), "the last section ends with the file");
        Self {
            magic: bytes[..4].try_into().unwrap(),
            version: word(4),
            sections,
        }
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.sections.len() as u32).to_le_bytes());
        for section in &self.sections {
            bytes.extend(section.kind.to_le_bytes());
            bytes.extend((section.payload.len() as u64).to_le_bytes());
            bytes.extend(&section.payload);
        }
        bytes
    }

    /// The payload of the first section of a kind; panics if there is none.
    pub fn section(&mut self, kind: u32) -> &mut Vec<u8> {
        let section = self.sections.iter_mut().find(|s| s.kind == kind);
        &mut section.expect("the section is there").payload
    }
}
