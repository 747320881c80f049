//! Where the files of an installation lie.
//!
//! The libraries that programs link to lie in `lib` of a folder, or in it. Backends, of which each is the
//! computing for one kind of device, are files of their own below `lib/backend`: whatever has
//! `icicle_backend` in its name there, ICICLE opens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::library::{CURVES, IcicleError};

/// Where in an installation a library lies.
pub(crate) fn find(folder: &Path, file: &str) -> Result<PathBuf, IcicleError> {
    for path in [folder.join("lib").join(file), folder.join(file)] {
        let why = match fs::metadata(&path) {
            Ok(found) if found.is_file() => return Ok(path),
            Ok(_) => "it is no file".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => error.to_string(),
        };
        return Err(IcicleError::Unreadable { file: path, why });
    }
    Err(IcicleError::Missing {
        file: file.to_owned(),
        folder: folder.to_owned(),
    })
}

/// The folder of an installation by that of its backends, which lies at most two floors above it; `None` if the
/// runtime is in neither.
pub fn folder_around(backends: &Path) -> Option<PathBuf> {
    let mut folders = backends.ancestors().take(3);
    let found = folders.find(|folder| find(folder, RUNTIME).is_ok());
    found.map(Path::to_owned)
}

/// Where an installation's backends are, if nobody says otherwise.
pub(crate) fn backends(folder: &Path) -> Option<PathBuf> {
    let beside = [folder.join("lib/backend"), folder.join("backend")];
    beside.into_iter().find(|folder| folder.is_dir())
}

/// Those of a folder's backends that have to do with devices, or with curves that are used here; the devices'
/// first, for the others need them.
pub(crate) fn backend_files(folder: &Path) -> Result<Vec<PathBuf>, IcicleError> {
    let mut files = Vec::new();
    walk(folder, 0, &mut files)?;
    let is_device = |path: &PathBuf| name(path).contains("device");
    let is_used = |path: &PathBuf| CURVES.iter().any(|(_, curve)| name(path).contains(curve));
    files.retain(|path| is_device(path) || is_used(path));
    files.sort_by_key(|path| (!is_device(path), path.clone()));
    Ok(files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), IcicleError> {
    let unreadable = |file: &Path, error: io::Error| IcicleError::Unreadable {
        file: file.to_owned(),
        why: error.to_string(),
    };
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if path.is_dir() && depth < DEPTH_MAX {
            walk(&path, depth + 1, files)?;
        } else if name(&path).contains("icicle_backend") {
            files.push(path);
        }
    }
    Ok(())
}

pub(crate) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What all else of ICICLE stands on.
pub(crate) const RUNTIME: &str = "libicicle_device.so";

/// Links may lead in circles.
const DEPTH_MAX: usize = 4;
