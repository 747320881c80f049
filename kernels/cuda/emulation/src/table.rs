//! The kernels that `build.rs` has compiled.

// The names are those of the kernels' sources.
include!(concat!(env!("OUT_DIR"), "/table.rs"));

type Entry = unsafe extern "C" fn(words: *const u64, blocks: u32);

/// Number, and threads of a block.
pub(crate) fn find(unit: &str, name: &str) -> Option<(usize, u32)> {
    let id = TABLE
        .iter()
        .position(|entry| (entry.0, entry.1) == (unit, name))?;
    Some((id, TABLE[id].3[0]))
}

/// All kernels: unit, name, threads of a block and words of its argument.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str, u32, u32)> {
    TABLE
        .iter()
        .map(|entry| (entry.0, entry.1, entry.3[0], entry.3[1]))
}

/// Words of a kernel's argument.
pub(crate) fn words(id: usize) -> usize {
    TABLE[id].3[1] as usize
}

pub(crate) fn run(id: usize, words: &[u64], blocks: u32) {
    assert_eq!(words.len(), self::words(id));
    // SAFETY: the words are as many as the kernel reads. What addresses among them stand for was
    // made by `Memory`, and the kernel keeps within it, or its margins tell.
    unsafe { TABLE[id].2(words.as_ptr(), blocks) };
}
