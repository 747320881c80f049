//! The operator's own way in: a socket in the file system, whose permissions say who may knock.
//!
//! With it the operator is served there and nowhere else, so that nothing which arrives at the network can add a tenant,
//! whatever it has stolen; the operator's secret is asked for all the same. Its connections are counted apart, so that a flood
//! at the port does not lock the operator out.
//!
//! A socket's file outlives its process, if that was killed. Who starts asks at the file that it finds: where nobody
//! answers the file is stale and is removed, where somebody does the start is refused. What is no socket is never
//! removed. On the way out the file goes, unless another has taken its place.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::Group;
use thiserror::Error;

/// `operator_socket` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorSocketConfig {
    /// Where it is made.
    pub path: PathBuf,
    /// Who but the owner may connect.
    pub group: Option<String>,
}

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum OperatorSocketError {
    /// The system refuses.
    #[error("operator_socket {}: {what}: {source}", path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is there.
    #[error("operator_socket {}: expected a socket or nothing there, got another kind of file: move it away", path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("operator_socket {}: another process answers there", path.display())]
    Answered {
        /// The path.
        path: PathBuf,
    },
    /// There is no such group.
    #[error("operator_socket_group: expected a group of this system, got {group:?}")]
    Group {
        /// Its name.
        group: String,
    },
}

/// A socket that listens, and its file.
pub struct OperatorSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl OperatorSocket {
    /// Makes the file, readable and writable for its owner and perhaps for a group, and listens.
    pub fn bind(config: &OperatorSocketConfig) -> Result<OperatorSocket, OperatorSocketError> {
        let path = &config.path;
        let system = |what| {
            move |source| OperatorSocketError::System {
                path: path.clone(),
                what,
                source,
            }
        };
        let group = config.group.as_deref().map(group).transpose()?;
        clear(path)?;
        // Nobody but the owner may knock, from the first moment.
        let before = umask(Mode::S_IRWXG | Mode::S_IRWXO);
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(system("listening"))?;
        let made = path.symlink_metadata().map_err(system("looking at it"))?;
        let this = OperatorSocket {
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

impl Drop for OperatorSocket {
    fn drop(&mut self) {
        let ours = self.path.symlink_metadata();
        if ours.is_ok_and(|it| (it.dev(), it.ino()) == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "removing the operator's socket");
        }
    }
}

fn group(name: &str) -> Result<u32, OperatorSocketError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(OperatorSocketError::Group {
            group: name.to_owned(),
        }),
    }
}

/// Removes a file that a process has left which is no more.
fn clear(path: &Path) -> Result<(), OperatorSocketError> {
    let system = |what| {
        move |source| OperatorSocketError::System {
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
        return Err(OperatorSocketError::Occupied {
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(OperatorSocketError::Answered {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "a socket that nobody answers at is removed");
            fs::remove_file(path).map_err(system("removing what was left"))
        }
        Err(error) => Err(system("asking whether somebody answers")(error)),
    }
}
