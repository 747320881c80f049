//! Programs by hand: what circom exports, with each part exchangeable, down to bytes.
//!
//! An assembler would be a dependency larger than what it assembles here. Code is a list of
//! instructions, each the bytes that it has in a module; functions are numbered, imports first.

/// A program of one input `a` and two wires, the constant 1 and the input, in the field of
/// 2^64 - 2^32 + 1.
#[derive(Clone)]
pub(crate) struct Parts {
    /// Further sections before the code, as they are.
    pub(crate) imports: Vec<(&'static str, &'static str, u8)>,
    /// Pages of memory.
    pub(crate) pages: i64,
    /// Further sections before that of the code.
    pub(crate) sections: Vec<u8>,
    /// A text at 1024.
    pub(crate) text: &'static str,
    pub(crate) set_input: Vec<u8>,
    pub(crate) witness: Vec<u8>,
    pub(crate) message: Vec<u8>,
    pub(crate) shared: Vec<u8>,
    pub(crate) wires: Vec<u8>,
    pub(crate) size: Vec<u8>,
    pub(crate) version: Vec<u8>,
    pub(crate) words: Vec<u8>,
    pub(crate) prime: Vec<u8>,
    /// How many locals `setInputSignal` has.
    pub(crate) locals: i64,
    /// Names that are exported under another.
    pub(crate) renamed: &'static str,
}

/// The one that does what circom's would.
pub(crate) fn honest() -> Parts {
    Parts {
        imports: vec![
            ("runtime", "exceptionHandler", TAKES_ONE),
            ("runtime", "printErrorMessage", NOTHING),
            ("runtime", "writeBufferMessage", NOTHING),
        ],
        pages: 1,
        sections: Vec::new(),
        text: "",
        set_input: code(&[&int(256), &int(64), LOAD_64, STORE_64]),
        witness: code(&[
            &int(64),
            &int(256),
            LOAD_64,
            &long(1),
            PARAMETER_0,
            SELECT,
            STORE_64,
        ]),
        message: int(0),
        shared: int(64),
        wires: int(2),
        size: int(1),
        version: int(2),
        words: int(2),
        prime: code(&[&int(64), &long(-4_294_967_295), STORE_64]),
        locals: 0,
        renamed: "",
    }
}

impl Parts {
    /// The module.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let types: [&[u8]; 6] = [
            &[0x60, 0, 0],
            &[0x60, 1, 0x7f, 0],
            &[0x60, 3, 0x7f, 0x7f, 0x7f, 0],
            &[0x60, 0, 1, 0x7f],
            &[0x60, 2, 0x7f, 0x7f, 1, 0x7f],
            &[0x60, 1, 0x7e, 0],
        ];
        let size = code(&[
            PARAMETER_0,
            // The upper half of the hash of `a`.
            &int(0xaf63_dc4c_u32 as i32),
            &[0x46],
            &[0x04, 0x7f],
            &self.size,
            &[0x05],
            &int(-1),
            &[0x0b],
        ]);
        let one = int(1);
        let functions: [(&str, u8, &[u8]); 12] = [
            ("deeper", NOTHING, &call(DEEPER)),
            ("getVersion", GIVES_ONE, &self.version),
            ("getSharedRWMemoryStart", GIVES_ONE, &self.shared),
            ("getFieldNumLen32", GIVES_ONE, &self.words),
            ("getRawPrime", NOTHING, &self.prime),
            ("getWitnessSize", GIVES_ONE, &self.wires),
            ("getInputSize", GIVES_ONE, &one),
            ("getInputSignalSize", TWO_GIVE_ONE, &size),
            ("init", TAKES_ONE, &[]),
            ("setInputSignal", TAKES_THREE, &self.set_input),
            ("getWitness", TAKES_ONE, &self.witness),
            ("getMessageChar", GIVES_ONE, &self.message),
        ];
        let imports = self
            .imports
            .iter()
            .map(|(module, name, kind)| code(&[&text(module), &text(name), &[0, *kind]]));
        let shown = |name: &str| match name == self.renamed {
            true => text("another"),
            false => text(name),
        };
        let mut exports = vec![code(&[&shown("memory"), &[2, 0]])];
        let first = self.imports.len() as u8;
        for (at, (name, ..)) in (first..).zip(&functions) {
            exports.push(code(&[&shown(name), &[0, at]]));
        }
        let bodies = functions.iter().map(|(name, _, body)| {
            let locals = match *name == "setInputSignal" && self.locals > 0 {
                true => code(&[&[1], &leb(self.locals), &[0x7e]]),
                false => vec![0],
            };
            let body = code(&[&locals, body, &[0x0b]]);
            code(&[&leb(body.len() as i64), &body])
        });
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend(section(1, types.iter().map(|it| it.to_vec())));
        module.extend(section(2, imports));
        module.extend(section(3, functions.iter().map(|(_, kind, _)| vec![*kind])));
        module.extend(section(5, [code(&[&[0], &leb(self.pages)])]));
        // A counter: a mutable number of 32 bits.
        module.extend(section(6, [vec![0x7f, 1, 0x41, 0, 0x0b]]));
        module.extend(section(7, exports));
        module.extend(&self.sections);
        module.extend(section(10, bodies));
        let data = code(&[&[0], &int(1024), &[0x0b], &text(self.text)]);
        module.extend(section(11, [data]));
        module
    }
}

/// Instructions one after the other.
pub(crate) fn code(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A section of items.
pub(crate) fn section(kind: u8, items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<_> = items.into_iter().collect();
    let content = code(&[&leb(items.len() as i64), &items.concat()]);
    code(&[&[kind], &leb(content.len() as i64), &content])
}

/// A constant of 32 bits.
pub(crate) fn int(number: i32) -> Vec<u8> {
    code(&[&[0x41], &signed(number.into())])
}

/// One of 64 bits.
pub(crate) fn long(number: i64) -> Vec<u8> {
    code(&[&[0x42], &signed(number)])
}

/// A call by number.
pub(crate) fn call(function: u8) -> Vec<u8> {
    vec![0x10, function]
}

/// A loop without end around something.
pub(crate) fn forever(body: &[u8]) -> Vec<u8> {
    code(&[&[0x03, 0x40], body, &[0x0c, 0, 0x0b]])
}

/// Something, if the number before it is not 0.
pub(crate) fn when(body: &[u8]) -> Vec<u8> {
    code(&[&[0x04, 0x40], body, &[0x0b]])
}

fn text(text: &str) -> Vec<u8> {
    code(&[&leb(text.len() as i64), text.as_bytes()])
}

fn leb(mut number: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn signed(mut number: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if (number == 0 && byte & 0x40 == 0) || (number == -1 && byte & 0x40 != 0) {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

// Types of functions.
pub(crate) const NOTHING: u8 = 0;
pub(crate) const TAKES_ONE: u8 = 1;
pub(crate) const TAKES_THREE: u8 = 2;
pub(crate) const GIVES_ONE: u8 = 3;
pub(crate) const TWO_GIVE_ONE: u8 = 4;
pub(crate) const TAKES_LONG: u8 = 5;

// Functions of the honest program.
pub(crate) const EXCEPTION: u8 = 0;
pub(crate) const PRINT: u8 = 1;
pub(crate) const LOG: u8 = 2;
pub(crate) const DEEPER: u8 = 3;

// Instructions.
pub(crate) const UNREACHABLE: &[u8] = &[0x00];
pub(crate) const DROP: &[u8] = &[0x1a];
pub(crate) const SELECT: &[u8] = &[0x1b];
pub(crate) const PARAMETER_0: &[u8] = &[0x20, 0];
pub(crate) const COUNTER: &[u8] = &[0x23, 0];
pub(crate) const SET_COUNTER: &[u8] = &[0x24, 0];
pub(crate) const LOAD_8: &[u8] = &[0x2d, 0, 0];
pub(crate) const LOAD_32: &[u8] = &[0x28, 2, 0];
pub(crate) const LOAD_64: &[u8] = &[0x29, 3, 0];
pub(crate) const STORE_64: &[u8] = &[0x37, 3, 0];
pub(crate) const GROW: &[u8] = &[0x40, 0];
pub(crate) const ADD: &[u8] = &[0x6a];
pub(crate) const DIVIDE: &[u8] = &[0x6e];
pub(crate) const DIFFERS: &[u8] = &[0x47];
pub(crate) const LESS: &[u8] = &[0x49];
