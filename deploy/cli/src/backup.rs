//! `caldera backup` and `caldera restore`: what a box keeps, copied while it runs, and put back. How, stands in `caldera-store`.

use std::path::PathBuf;

use caldera_store::backup::{self, Contents};
use serde_json::json;

use crate::{Report, table};

/// Copy what a box keeps into a folder, while it runs
///
/// For who may read the box's data folder. The copy is one state: the database as it was at one moment, and the blobs that go
/// with it, each checked against its digest. Witnesses of jobs that have not ended are in it; secrets are not, unless
/// --with-secrets is given. Refuses to overwrite anything.
#[derive(clap::Args)]
pub(crate) struct BackupArguments {
    /// The box's data folder
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Folder to make
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// Copy the secrets that the box has made too: whoever has this backup can sign for its tenants
    #[arg(long)]
    with_secrets: bool,
}

/// Check a backup and make the data folder of a box from it
///
/// Nothing is made before every file has been checked. The folder must not be there, or be empty: then what is in it will have its
/// owner.
#[derive(clap::Args)]
pub(crate) struct RestoreArguments {
    /// A folder that caldera backup has made
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The data folder of a box that does not run
    #[arg(value_name = "DATA")]
    data: PathBuf,
}

pub(crate) fn backup(arguments: &BackupArguments) -> anyhow::Result<Report> {
    let contents = backup::save(&arguments.data, &arguments.backup, arguments.with_secrets)?;
    let folder = arguments.backup.display().to_string();
    Ok(report(&format!("copied to {folder}"), &contents))
}

pub(crate) fn restore(arguments: &RestoreArguments) -> anyhow::Result<Report> {
    let contents = backup::restore(&arguments.backup, &arguments.data)?;
    let folder = arguments.data.display().to_string();
    Ok(report(
        &format!("checked and restored to {folder}"),
        &contents,
    ))
}

fn report(what: &str, contents: &Contents) -> Report {
    let Contents {
        blobs,
        absent,
        secrets,
        bytes,
    } = *contents;
    let mut text = format!(
        "{what}: the database, {blobs} blobs and {secrets} secrets, {}\n",
        table::bytes(bytes)
    );
    if absent > 0 {
        text.push_str(&format!(
            "{absent} blobs that the database names are not on the box: keys that were given back are read again from their sources\n"
        ));
    }
    let json = json!({ "blobs": blobs, "absent": absent, "secrets": secrets, "bytes": bytes });
    Report::new(text, json)
}
