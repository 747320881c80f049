//! Programs that mean harm: what circom exports, with one thing turned bad.
//!
//! For each there is one refusal, and every slice comes back: a loop without end is left after as many
//! slices as the caller likes.

mod assembler;

use caldera_witness::{
    Calculation, CircuitFault, Inputs, Limits, Program, ProgramError, Progress, SLICE_FUEL,
    WitnessError,
};

use assembler::*;

type Outcome = Option<Result<Vec<u8>, WitnessError>>;

impl Parts {
    fn load(&self) -> Result<Program, ProgramError> {
        Program::load(&self.bytes(), &limits())
    }

    /// Runs at most so many slices; `None` if it would go on.
    fn run(&self, inputs: &str, slices: usize) -> Outcome {
        let inputs = match Inputs::parse(inputs.as_bytes().to_vec(), &limits()) {
            Ok(inputs) => inputs,
            Err(error) => return Some(Err(error)),
        };
        let program = self.load().expect("a program that loads");
        let mut calculation = Calculation::begin(&program, inputs).expect("an instance");
        for _ in 0..slices {
            match calculation.step(SLICE_FUEL) {
                Ok(Progress::More) => {}
                Ok(Progress::Done(file)) => return Some(Ok(file.to_vec())),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    fn failure(&self) -> WitnessError {
        self.run(INPUTS, 1000)
            .expect("it comes to an end")
            .expect_err("it fails")
    }
}

/// The honest program with another way to take an input.
fn taking(set_input: Vec<u8>) -> Parts {
    Parts {
        set_input,
        ..honest()
    }
}

fn limits() -> Limits {
    Limits {
        program_bytes: 1 << 20,
        memory_bytes: 1 << 20,
        witness_bytes: 1 << 20,
        inputs_bytes: 1 << 16,
        inputs: 1 << 12,
    }
}

#[test]
fn the_honest_one_computes() {
    let file = honest().run(INPUTS, 1);
    let file = file.expect("one slice").expect("a witness");
    assert_eq!(&file[..4], b"wtns");
    let (one, seven) = (1u64.to_le_bytes(), 7u64.to_le_bytes());
    assert_eq!(file[file.len() - 16..], [one, seven].concat());
}

/// However little is given at once, the same comes out.
#[test]
fn slices_of_any_size_agree() {
    // Counts to 1000, then does what the honest one does.
    let counting = code(&[
        &[0x03, 0x40],
        COUNTER,
        &int(1),
        ADD,
        SET_COUNTER,
        COUNTER,
        &int(1000),
        LESS,
        &[0x0d, 0, 0x0b],
        &honest().set_input,
    ]);
    let program = taking(counting).load().expect("a program");
    let run = |fuel: u64| {
        let inputs = Inputs::parse(INPUTS.as_bytes().to_vec(), &limits()).expect("inputs");
        let mut calculation = Calculation::begin(&program, inputs).expect("an instance");
        let mut slices = 1;
        loop {
            match calculation.step(fuel).expect("no error") {
                Progress::More => slices += 1,
                Progress::Done(file) => return (slices, file.to_vec()),
            }
        }
    };
    let (slices, whole) = run(SLICE_FUEL);
    assert_eq!(slices, 1);
    for fuel in [1, 2, 3, 7, 100, 1009] {
        let (slices, file) = run(fuel);
        assert!(slices > 3, "{slices} slices of {fuel}");
        assert_eq!(file, whole, "{fuel}");
    }
}

#[test]
fn a_loop_without_end_is_left() {
    assert_eq!(taking(forever(&[])).run(INPUTS, 50), None);
    let looping = Parts {
        witness: forever(&[]),
        ..honest()
    };
    assert_eq!(looping.run(INPUTS, 50), None);
}

/// A call out costs as much as many instructions, so that a flood of them is cut into slices too.
#[test]
fn a_flood_of_calls_out_is_left() {
    for function in [LOG, PRINT] {
        let flood = taking(forever(&call(function)));
        assert_eq!(flood.run(INPUTS, 50), None, "{function}");
    }
    let endless = Parts {
        message: int(65),
        ..taking(call(PRINT))
    };
    assert_eq!(endless.run(INPUTS, 50), None);
    let stuck = Parts {
        message: code(&[&forever(&[]), &int(0)]),
        ..taking(call(PRINT))
    };
    assert_eq!(stuck.run(INPUTS, 50), None);
}

#[test]
fn memory_has_a_limit() {
    let large = Parts {
        pages: 17,
        ..honest()
    };
    assert!(matches!(large.load(), Err(ProgramError::Module { .. })));
    // Growing beyond it answers -1, as a machine that has no more would; within it it works.
    let grow = |pages, answer| {
        let differs = code(&[&int(pages), GROW, &int(answer), DIFFERS]);
        code(&[&differs, &when(UNREACHABLE)])
    };
    let grows = taking(code(&[&grow(15, 1), &grow(1, -1), &honest().set_input]));
    assert!(matches!(grows.run(INPUTS, 100), Some(Ok(_))));
    let more = taking(forever(&code(&[&int(1), GROW, DROP])));
    assert_eq!(more.run(INPUTS, 50), None);
}

#[test]
fn rules_of_the_machine_hold() {
    for (set_input, why) in [
        (call(DEEPER), "its calls nest too deep"),
        (
            UNREACHABLE.to_vec(),
            "it reached code that is marked unreachable",
        ),
        (
            code(&[&int(65_536), LOAD_32, DROP]),
            "it reached outside of its memory",
        ),
        (
            code(&[&int(1), &int(0), DIVIDE, DROP]),
            "it divided by zero",
        ),
    ] {
        assert_eq!(taking(set_input).failure(), WitnessError::Trap { why });
    }
}

#[test]
fn numbers_about_itself_are_held_against_bounds() {
    let refused = |parts: Parts| parts.load().expect_err("refused").to_string();
    let of_circom_1 = Parts {
        version: int(1),
        ..honest()
    };
    assert_eq!(
        refused(of_circom_1),
        "the witness program: expected one of circom 2, got circom 1"
    );
    for got in [1, 17, -1] {
        let words = int(got);
        assert_eq!(
            refused(Parts { words, ..honest() }),
            format!("the witness program: expected a field of 2 to 16 words, got {got}")
        );
    }
    for got in [0, -1, 131_073] {
        let wires = int(got);
        assert_eq!(
            refused(Parts { wires, ..honest() }),
            format!("the witness program: expected a witness of 1 to 131072 elements, got {got}")
        );
    }
    let nothing = Parts {
        prime: Vec::new(),
        ..honest()
    };
    let at_the_edge = Parts {
        shared: int(65_532),
        ..honest()
    };
    let beyond = Parts {
        shared: int(-1),
        ..honest()
    };
    for parts in [nothing, at_the_edge, beyond] {
        let text = refused(parts);
        assert!(text.contains("expected a prime"), "{text}");
    }
    for (version, why) in [
        (
            code(&[&forever(&[]), &int(2)]),
            "it does not come to an end",
        ),
        (UNREACHABLE.to_vec(), "it traps"),
    ] {
        assert_eq!(
            refused(Parts {
                version,
                ..honest()
            }),
            format!("the witness program does not say what it is: {why}")
        );
    }
}

#[test]
fn elements_are_below_the_prime() {
    let above = Parts {
        witness: code(&[&int(64), &long(-1), STORE_64]),
        ..honest()
    };
    assert_eq!(above.failure(), WitnessError::Range { wire: 0 });
}

#[test]
fn what_is_not_circoms_is_refused() {
    let refused = |parts: Parts| parts.load().expect_err("refused");
    let with = |sections: Vec<u8>| Parts {
        sections,
        ..honest()
    };
    // A start section, which names a function.
    assert_eq!(refused(with(vec![8, 1, DEEPER])), ProgramError::Start);
    let globals = section(6, vec![vec![0x7f, 0, 0x41, 0, 0x0b]; 101]);
    assert_eq!(
        refused(with(globals)).to_string(),
        "the witness program: expected globals of at most 100, got 101"
    );
    let tables = section(4, vec![vec![0x70, 0, 1]; 2]);
    assert_eq!(
        refused(with(tables)).to_string(),
        "the witness program: expected tables of at most 1, got 2"
    );
    let many = Parts {
        locals: 1001,
        ..honest()
    };
    assert_eq!(
        refused(many).to_string(),
        "the witness program: expected the locals of a function of at most 1000, got 1001"
    );
    // Floating point, of which circom makes none: `f32.const 0`, `drop`.
    let floating = taking(vec![0x43, 0, 0, 0, 0, 0x1a]);
    assert!(matches!(refused(floating), ProgramError::Module { .. }));

    for (module, name) in [
        ("env", "exceptionHandler"),
        ("wasi_snapshot_preview1", "fd_write"),
        ("runtime", "error"),
    ] {
        let mut parts = honest();
        parts.imports[2] = (module, name, NOTHING);
        let got = format!("{module}.{name}");
        assert_eq!(refused(parts), ProgramError::Import { got });
    }
    // One that is called as circom's and takes something else.
    let mut parts = honest();
    parts.imports[2] = ("runtime", "writeBufferMessage", TAKES_LONG);
    parts.message = int(0);
    assert!(matches!(refused(parts), ProgramError::Module { .. }));

    for renamed in [
        "memory",
        "getVersion",
        "getInputSignalSize",
        "getMessageChar",
    ] {
        let error = refused(Parts {
            renamed,
            ..honest()
        });
        let text = format!("the witness program: expected it to export {renamed}");
        assert!(error.to_string().starts_with(&text), "{error}");
    }

    let limits = limits();
    let long = vec![0; limits.program_bytes + 1];
    let got = Program::load(&long, &limits).map(drop);
    assert!(matches!(got, Err(ProgramError::Length { .. })), "{got:?}");
    for bytes in [
        &b""[..],
        b"\0asm",
        b"\0asm\x01\0\0\0\x0a\xff\xff\xff\xff\x0f",
    ] {
        let got = Program::load(bytes, &limits).map(drop);
        assert!(matches!(got, Err(ProgramError::Module { .. })), "{got:?}");
    }
}

#[test]
fn signals_are_counted() {
    let error = |inputs: &str| {
        let outcome = honest().run(inputs, 10).expect("an end");
        outcome.expect_err("refused").to_string()
    };
    assert_eq!(
        error("{\"b\":1}"),
        "inputs: the circuit has no input signal b"
    );
    for (values, got) in [("[1,2]", 2), ("[]", 0)] {
        assert_eq!(
            error(&format!("{{\"a\":{values}}}")),
            format!("inputs: signal a: expected 1 values, got {got}")
        );
    }
    assert_eq!(
        error("{}"),
        "inputs: expected 1 values in all, got 0, in no signal"
    );
    // A size that is a lie is a size like any other.
    let lying = Parts {
        size: int(i32::MAX),
        ..honest()
    };
    let expected = WitnessError::Values {
        signal: "a".to_owned(),
        expected: 2_147_483_647,
        got: 1,
    };
    assert_eq!(lying.failure(), expected);
}

/// circom's runtime says an assertion's place letter by letter, and gives up afterwards.
#[test]
fn an_assertion_is_named() {
    let count = code(&[COUNTER, &int(1), ADD, SET_COUNTER]);
    let failing = Parts {
        text: "Error in template Square_3 line: 12\0",
        message: code(&[&count, &int(1023), COUNTER, ADD, LOAD_8]),
        ..taking(code(&[&call(PRINT), &int(4), &call(EXCEPTION)]))
    };
    let error = failing.failure();
    let expected = WitnessError::Circuit {
        kind: CircuitFault::Assert,
        message: "Error in template Square_3 line: 12".to_owned(),
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "the circuit: assert failed: Error in template Square_3 line: 12"
    );
    let other = taking(code(&[&int(77), &call(EXCEPTION)]));
    assert_eq!(
        other.failure().to_string(),
        "the circuit: error 77 of circom's runtime"
    );
}

const INPUTS: &str = "{\"a\":\"7\"}";
