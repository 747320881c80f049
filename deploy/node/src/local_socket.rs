//! Ways in for those who are on the box: sockets in the file system, whose permissions say who may knock.
//!
//! With one of its own the operator is served there and nowhere else, so that nothing which arrives at the network can add a tenant,
//! whatever it has stolen; and the box's fleet process is served at one alone, for it is told witnesses. Secrets are asked
//! for all the same. Connections are counted apart, so that a flood at the port locks nobody out.
//!
//! A socket's file outlives its process, if that was killed. Who starts asks at the file that it finds: where nobody
//! answers the file is stale and is removed, where somebody does the start is refused. What is no socket is never
//! removed. On the way out the file goes, unless another has taken its place.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use caldera_rpc::chain::chain;
use nix::sys::stat::{Mode, umask};
use nix::unistd::Group;
use thiserror::Error;

/// What the configuration says of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSocketConfig {
    /// As what the configuration has it, and its group.
    pub fields: [&'static str; 2],
    /// Where it is made.
    pub path: PathBuf,
    /// Who but the owner may connect.
    pub group: Option<String>,
}

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum LocalSocketError {
    /// The system refuses.
    #[error("{field} {}: {what}", path.display())]
    System {
        /// The field.
        field: &'static str,
        /// The path.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{field} {}: expected a socket or nothing there, got another kind of file: move it away", path.display())]
    Occupied {
        /// The field.
        field: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("{field} {}: another process answers there", path.display())]
    Answered {
        /// The field.
        field: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// There is no such group.
    #[error("{field}: expected a group of this system, got {group:?}")]
    Group {
        /// The field.
        field: &'static str,
        /// Its name.
        group: String,
    },
}

/// A socket that listens, and its file.
pub struct LocalSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl LocalSocket {
    /// Makes the file, readable and writable for its owner and perhaps for a group, and listens.
    pub fn bind(config: &LocalSocketConfig) -> Result<LocalSocket, LocalSocketError> {
        let path = &config.path;
        let [field, group_field] = config.fields;
        let system = |what| {
            move |source| LocalSocketError::System {
                field,
                path: path.clone(),
                what,
                source,
            }
        };
        let group = config.group.as_deref();
        let group = group.map(|name| self::group(group_field, name));
        let group = group.transpose()?;
        clear(field, path)?;
        // Nobody but the owner may knock, from the first moment.
        let before = umask(Mode::S_IRWXG | Mode::S_IRWXO);
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(system("listening"))?;
        let made = path.symlink_metadata().map_err(system("looking at it"))?;
        let this = LocalSocket {
            listener: Some(listener),
            path: path.clone(),
            file: (made.dev(), made.ino()),
        };
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        if group.is_some() {
            chown(path, None, group).map_err(system("giving it to its group"))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(system("setting its mode"))?;
        Ok(this)
    }

    /// The socket, for who polls it: once.
    pub fn take(&mut self) -> io::Result<Option<UnixListener>> {
        if let Some(listener) = &self.listener {
            listener.set_nonblocking(true)?;
        }
        Ok(self.listener.take())
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let ours = self.path.symlink_metadata();
        if ours.is_ok_and(|it| (it.dev(), it.ino()) == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(error = %chain(&error), path = %self.path.display(), "removing a socket");
        }
    }
}

fn group(field: &'static str, name: &str) -> Result<u32, LocalSocketError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(LocalSocketError::Group {
            field,
            group: name.to_owned(),
        }),
    }
}

/// Removes a file that a process has left which is no more.
fn clear(field: &'static str, path: &Path) -> Result<(), LocalSocketError> {
    let system = |what| {
        move |source| LocalSocketError::System {
            field,
            path: path.to_owned(),
            what,
            source,
        }
    };
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("looking at it")(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(LocalSocketError::Occupied {
            field,
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(LocalSocketError::Answered {
            field,
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "a socket that nobody answers at is removed");
            fs::remove_file(path).map_err(system("removing what was left"))
        }
        Err(error) => Err(system("asking whether somebody answers")(error)),
    }
}
