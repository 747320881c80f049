//! The emulation's memory: the process's own, with margins.

use std::collections::HashMap;

/// What is allocated, by address.
#[derive(Default)]
pub(crate) struct Memory {
    blocks: HashMap<u64, Block>,
}

struct Block {
    /// Margin, contents, margin. Kernels read and write the contents through its address, so it is
    /// only ever touched through pointers while it is here.
    all: *mut [u128],
    bytes: usize,
}

// SAFETY: a block is owned by the map that it is in, which stands behind a lock, and by the kernels
// that run, one at a time.
unsafe impl Send for Block {}

impl Memory {
    pub(crate) fn allocate(&mut self, bytes: usize) -> Option<u64> {
        assert!(bytes > 0, "nothing is allocated");
        let mut all = Vec::new();
        let len = bytes.div_ceil(16) + 2 * MARGIN;
        all.try_reserve_exact(len).ok()?;
        all.resize(len, PATTERN);
        let all = Box::into_raw(all.into_boxed_slice());
        let address = all.cast::<u128>().addr() as u64 + 16 * MARGIN as u64;
        self.blocks.insert(address, Block { all, bytes });
        Some(address)
    }

    pub(crate) fn free(&mut self, address: u64, bytes: usize) {
        let block = self
            .blocks
            .remove(&address)
            .expect("what is freed is allocated");
        assert_eq!(block.bytes, bytes, "what is freed is what was allocated");
        // SAFETY: made by `into_raw` above, and removed from the map, so freed once.
        let all = unsafe { Box::from_raw(block.all) };
        let whole = |margin: &[u128]| margin.iter().all(|&word| word == PATTERN);
        assert!(whole(&all[..MARGIN]), "a kernel wrote before its memory");
        assert!(
            whole(&all[all.len() - MARGIN..]),
            "a kernel wrote behind its memory"
        );
    }

    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        let place = self.place(address, bytes.len());
        // SAFETY: `place` has so many bytes, which are initialised and not borrowed.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    }

    pub(crate) fn read(&mut self, address: u64, bytes: &mut [u8]) {
        let place = self.place(address, bytes.len());
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), bytes.len()) };
    }

    pub(crate) fn bytes(&self) -> usize {
        self.blocks.values().map(|block| block.bytes).sum()
    }

    /// Where so many bytes lie within one block.
    fn place(&self, address: u64, bytes: usize) -> *mut u8 {
        let (start, block) = self
            .blocks
            .iter()
            .find(|(start, block)| (**start..**start + block.bytes as u64).contains(&address))
            .expect("an address that is allocated");
        let offset = (address - start) as usize;
        assert!(offset + bytes <= block.bytes, "a copy beyond the memory");
        // SAFETY: within the block: the margin before it, and an offset that was looked at.
        unsafe { block.all.cast::<u8>().add(16 * MARGIN + offset) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (address, block) in std::mem::take(&mut self.blocks) {
            let bytes = block.bytes;
            self.blocks.insert(address, block);
            self.free(address, bytes);
        }
    }
}

/// Words of 16 bytes on either side.
const MARGIN: usize = 16;

/// No element is like this, and no index is in range.
const PATTERN: u128 = 0xdead_beef_dead_beef_dead_beef_dead_beef;
