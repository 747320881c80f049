//! What a plan changes in a tree, in the form that `diff -u` made familiar, with whole files as
//! context: drop-ins are short.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::plan::Plan;

/// The differences between what is below `root` and what the plan writes there; empty if there are none.
pub fn difference(root: &Path, plan: &Plan) -> io::Result<String> {
    let mut text = String::new();
    for file in &plan.files {
        let there = match fs::read(root.join(&file.path)) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if there.as_deref() == Some(&file.content) {
            continue;
        }
        let from = match there {
            Some(_) => format!("/{}", file.path),
            None => "/dev/null".to_owned(),
        };
        let _ = writeln!(text, "--- {from}\n+++ /{}", file.path);
        lines(
            there.as_deref().unwrap_or_default(),
            &file.content,
            &mut text,
        );
    }
    Ok(text)
}

/// Lines that both have stay; the longest common sequence decides which these are.
fn lines(old: &str, new: &str, text: &mut String) {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    // What is common from line i of the old and line j of the new on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let (sign, line) = if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            (' ', new[j - 1])
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', old[i - 1])
        } else {
            j += 1;
            ('+', new[j - 1])
        };
        let _ = writeln!(text, "{sign}{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_not_written_twice() {
        let mut text = String::new();
        lines("a\nb\nc\n", "a\nx\nc\nd\n", &mut text);
        assert_eq!(text, " a\n-b\n+x\n c\n+d\n");
        text.clear();
        lines("", "a\n", &mut text);
        assert_eq!(text, "+a\n");
    }
}
