//! Public inputs that are accepted are the same after they have been printed and read.

use caldera_kernels::CurveId;
use caldera_prover::format::json::PublicInputs;

pub(crate) fn run(data: &[u8]) {
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        let Ok(value) = PublicInputs::parse(data, curve) else {
            continue;
        };
        let text = value.print();
        assert_eq!(PublicInputs::parse(text.as_bytes(), curve), Ok(value));
    }
}
