//! A key that is accepted says the same of its coefficients whole and in steps, and is the same
//! after it has been written and read.

use bytes::Bytes;
use caldera_prover::format::{Part, Zkey, ZkeyWriter};

pub(crate) fn run(data: &[u8]) {
    let Ok(key) = Zkey::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    let count = key.coefficient_count();
    let whole = key.check_coefficients(0..count);
    let steps = (0..count).try_for_each(|index| key.check_coefficients(index..index + 1));
    assert_eq!(whole, steps);

    let header = key.header().clone();
    let mut writer = ZkeyWriter::new(Vec::new(), header, count as u32, key.development())
        .expect("a header that was read can be written");
    for part in Part::ALL {
        writer
            .write(part, key.part(part))
            .expect("a part that was read fits");
    }
    let written = writer.finish().expect("all parts are written");
    let again = Zkey::parse(Bytes::from(written)).expect("a key that was written can be read");
    assert_eq!(again.header(), key.header());
    assert_eq!(again.development(), key.development());
    assert_eq!(again.contribution_count(), 0);
    for part in Part::ALL {
        assert_eq!(again.part(part), key.part(part));
    }
}
