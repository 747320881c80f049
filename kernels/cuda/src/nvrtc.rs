//! NVIDIA's compiler of CUDA C++ to PTX, as a library that is loaded when it is wanted: by `make
//! cuda`, and by developers who name it in an environment variable. A box needs none.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

use libloading::Library;

use crate::sources::{HEADERS, Unit};

/// The library.
pub struct Nvrtc {
    library: Library,
    /// Looked for by name when something is compiled, so it has to be there before.
    _builtins: Vec<Library>,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum NvrtcError {
    /// The library, or a function of it, cannot be loaded.
    #[error("NVRTC")]
    Load(#[from] libloading::Error),
    /// The source does not compile.
    #[error("NVRTC: {unit}: error {code}\n{log}")]
    Compile {
        /// The unit.
        unit: String,
        /// NVRTC's number for it.
        code: c_int,
        /// What it says.
        log: String,
    },
}

type Program = *mut c_void;

impl Nvrtc {
    /// Loads the library in this file, and those beside it that it needs.
    ///
    /// # Errors
    /// If it is not there, or not one.
    pub fn load(path: &Path) -> Result<Self, NvrtcError> {
        let folder = path.parent().and_then(|folder| folder.read_dir().ok());
        let builtins = folder
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|file| {
                let name = file.file_name();
                name.to_string_lossy().starts_with("libnvrtc-builtins.so")
            })
            // SAFETY: a library of data and of code that NVRTC calls, with nothing to initialise.
            .map(|file| unsafe { Library::new(file.path()) })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            // SAFETY: as above; the caller names NVRTC.
            library: unsafe { Library::new(path) }?,
            _builtins: builtins,
        })
    }

    /// The PTX of a unit for architectures from this one on.
    ///
    /// # Errors
    /// If it does not compile; the log says why.
    pub fn compile(&self, unit: &Unit, architecture: u32) -> Result<Vec<u8>, NvrtcError> {
        let text = |text: &str| CString::new(text).expect("sources and options have no zero byte");
        let owned: Vec<[CString; 2]> = HEADERS
            .iter()
            .map(|(name, header)| [text(name), text(header)])
            .collect();
        let names: Vec<_> = owned.iter().map(|[name, _]| name.as_ptr()).collect();
        let headers: Vec<_> = owned.iter().map(|[_, header]| header.as_ptr()).collect();
        let (source, name) = (text(unit.text), text(&unit.name));
        let mut options = vec![
            text(&format!("--gpu-architecture=compute_{architecture}")),
            text("--std=c++17"),
            text("--device-as-default-execution-space"),
        ];
        options.extend(
            unit.defines
                .iter()
                .map(|define| text(&format!("-D{define}"))),
        );
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let failed = |code, log| NvrtcError::Compile {
            unit: unit.name.clone(),
            code,
            log,
        };
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: the functions have the signatures of NVRTC's header; all pointers are to strings
        // and arrays that live until it returns, and the counts are theirs.
        let code = unsafe {
            self.library.get::<unsafe extern "C" fn(
                *mut Program,
                *const c_char,
                *const c_char,
                c_int,
                *const *const c_char,
                *const *const c_char,
            ) -> c_int>(b"nvrtcCreateProgram\0")?(
                &mut program,
                source.as_ptr(),
                name.as_ptr(),
                HEADERS.len() as c_int,
                headers.as_ptr(),
                names.as_ptr(),
            )
        };
        if code != 0 {
            return Err(failed(code, String::new()));
        }
        // SAFETY: a program that was made, and options that live until it returns.
        let code = unsafe {
            self.library
                .get::<unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int>(
                    b"nvrtcCompileProgram\0",
                )?(program, options.len() as c_int, options.as_ptr())
        };
        let result = if code == 0 {
            self.output(program, b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0")
        } else {
            let log = self.output(
                program,
                b"nvrtcGetProgramLogSize\0",
                b"nvrtcGetProgramLog\0",
            )?;
            Err(failed(code, String::from_utf8_lossy(&log).into_owned()))
        };
        // SAFETY: the program was made above and is not used again.
        unsafe {
            self.library
                .get::<unsafe extern "C" fn(*mut Program) -> c_int>(b"nvrtcDestroyProgram\0")?(
                &mut program,
            )
        };
        result
    }

    /// One of the texts that a program has, without its final zero byte.
    fn output(&self, program: Program, size: &[u8], text: &[u8]) -> Result<Vec<u8>, NvrtcError> {
        let mut len = 0usize;
        // SAFETY: a program that was made, and a place for a size.
        unsafe {
            self.library
                .get::<unsafe extern "C" fn(Program, *mut usize) -> c_int>(size)?(
                program, &mut len
            )
        };
        let mut bytes = vec![0u8; len];
        // SAFETY: room for as many bytes as were asked for.
        unsafe {
            self.library
                .get::<unsafe extern "C" fn(Program, *mut c_char) -> c_int>(text)?(
                program,
                bytes.as_mut_ptr().cast(),
            )
        };
        bytes.pop();
        Ok(bytes)
    }
}

/// The kernels of a unit, as its PTX declares them.
pub fn shapes(ptx: &str) -> Vec<crate::bundle::Shape> {
    let number = |text: &str| -> u32 {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    ptx.split(".entry ")
        .skip(1)
        .filter_map(|entry| {
            let name = entry.split('(').next()?.trim().to_owned();
            let bytes = entry.split_once("_param_0[")?.1;
            let threads = entry.split_once(".maxntid ")?.1;
            Some(crate::bundle::Shape {
                name,
                threads: number(threads),
                words: number(bytes) / 8,
            })
        })
        .collect()
}
