//! `snarkrs-kernels FOLDER ARCHITECTURE...` writes the CUDA sources of snarkrs into a folder, each beside the name that
//! the PTX of it is to have: for a compiler that is not NVRTC, and a box that has none.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| ".".to_owned());
    for architecture in arguments {
        for (name, source) in caldera_peer_snarkrs::units(&architecture) {
            let source_name = format!("{name}.cu");
            std::fs::write(Path::new(&folder).join(&source_name), source)?;
            println!("{architecture} {source_name} {name}");
        }
    }
    Ok(())
}
