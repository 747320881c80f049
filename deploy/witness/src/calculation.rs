//! One run of a witness program, in slices.
//!
//! The whole conversation with the program (start, every input, every wire, and each letter of a
//! message) is one state machine, so that it can stop anywhere: between two calls, or inside of one, where the
//! interpreter keeps the program's stack until the next slice. Where circom's runtime calls out to have
//! a message read, the call is left, the letters are fetched by calls of their own, and then it
//! goes on. What is done on this side of the border costs fuel too.

use wasmi::{Func, ResumableCall, ResumableCallHostTrap, ResumableCallOutOfFuel, TrapCode, Val};
use zeroize::{Zeroize, Zeroizing};

use crate::program::{About, HOST_CALL_FUEL, HostCall, Running, refuel};
use crate::{Inputs, Program, ProgramError, WitnessError};

/// A witness that is being computed.
pub struct Calculation {
    running: Running,
    about: About,
    inputs: Inputs,
    state: State,
    /// A call that ran out of fuel.
    paused: Option<ResumableCallOutOfFuel>,
    /// A call that waits until its message has been read.
    reading: Option<ResumableCallHostTrap>,
    /// Lines of circom's runtime.
    message: String,
    /// The file, from its head on.
    file: Zeroizing<Vec<u8>>,
}

/// How far a calculation is.
pub enum Progress {
    /// The fuel is burnt; call again.
    More,
    /// The bytes of a `.wtns` file, as snarkjs writes it.
    Done(Zeroizing<Vec<u8>>),
}

#[derive(Clone, Copy)]
enum State {
    Start,
    /// How many values a signal has.
    Size {
        signal: usize,
    },
    Value {
        signal: usize,
        index: usize,
    },
    Wire(u32),
}

/// How a call came back.
enum Called {
    Returned(i32),
    Paused,
}

impl Calculation {
    /// Makes an instance: copies the program's constants to a memory of its own.
    pub fn begin(program: &Program, inputs: Inputs) -> Result<Calculation, ProgramError> {
        let running = program.start()?;
        let about = *program.about();
        let file = head(&about);
        Ok(Calculation {
            running,
            about,
            inputs,
            state: State::Start,
            paused: None,
            reading: None,
            message: String::new(),
            file: Zeroizing::new(file),
        })
    }

    /// Goes on for so much fuel, and for little more if a single step costs more. Not to be called
    /// again after an error, nor after [`Progress::Done`].
    pub fn step(&mut self, fuel: u64) -> Result<Progress, WitnessError> {
        // What costs more than a slice, were it but one step, gets what it costs: else it would never go on.
        // Only the growth of memory costs much, and that is bounded.
        let paused = self.paused.as_ref();
        let need = paused.map_or(0, ResumableCallOutOfFuel::required_fuel);
        refuel(&mut self.running.store, fuel.max(need));
        loop {
            if self.fuel() == 0 {
                return Ok(Progress::More);
            }
            let functions = self.running.functions;
            match self.state {
                State::Start => {
                    // 0, as snarkjs: without the checks that only slow it down.
                    let Called::Returned(_) = self.call(functions.init, &[0], 0)? else {
                        return Ok(Progress::More);
                    };
                    self.state = State::Size { signal: 0 };
                }
                State::Size { signal } if signal == self.inputs.signals().len() => {
                    let (expected, got) = (u64::from(self.about.inputs), self.inputs.len());
                    if got < expected {
                        let signals = self.given();
                        return Err(WitnessError::Missing {
                            expected,
                            got,
                            signals,
                        });
                    }
                    self.state = State::Wire(0);
                }
                State::Size { signal } => {
                    let (high, low) = self.inputs.signals()[signal].hash();
                    let called = self.call(functions.input_signal_size, &[high, low], 1)?;
                    let Called::Returned(size) = called else {
                        return Ok(Progress::More);
                    };
                    let it = &self.inputs.signals()[signal];
                    let name = || it.name.clone();
                    let expected = u64::try_from(size)
                        .map_err(|_| WitnessError::Unknown { signal: name() })?;
                    if it.len() != expected {
                        return Err(WitnessError::Values {
                            signal: name(),
                            expected,
                            got: it.len(),
                        });
                    }
                    self.state = State::Value { signal, index: 0 };
                }
                State::Value { signal, index }
                    if index as u64 == self.inputs.signals()[signal].len() =>
                {
                    self.state = State::Size { signal: signal + 1 };
                }
                State::Value { signal, index } => {
                    if self.paused.is_none() && self.reading.is_none() {
                        self.hand_over(signal, index)?;
                    }
                    let (high, low) = self.inputs.signals()[signal].hash();
                    let arguments = [high, low, index as i32];
                    let called = self.call(functions.set_input_signal, &arguments, 0)?;
                    let Called::Returned(_) = called else {
                        return Ok(Progress::More);
                    };
                    let index = index + 1;
                    self.state = State::Value { signal, index };
                }
                State::Wire(wire) if wire == self.about.witness => {
                    return Ok(Progress::Done(std::mem::take(&mut self.file)));
                }
                State::Wire(wire) => {
                    let called = self.call(functions.witness, &[wire as i32], 0)?;
                    let Called::Returned(_) = called else {
                        return Ok(Progress::More);
                    };
                    self.fetch(wire)?;
                    self.state = State::Wire(wire + 1);
                }
            }
        }
    }

    /// Puts the next value where the program looks for it.
    fn hand_over(&mut self, signal: usize, index: usize) -> Result<(), WitnessError> {
        let prime = &self.about.prime;
        let (number, digits) = self.inputs.number(signal, index, prime);
        let number = Zeroizing::new(number);
        let len = prime.words().len();
        self.running
            .put(&number.0[..len])
            .ok_or(WitnessError::Outside {
                what: "the place of a number",
            })?;
        // Five additions of as many words as the prime has for each digit.
        self.charge(digits as u64 * len as u64);
        Ok(())
    }

    /// Takes the value of a wire.
    fn fetch(&mut self, wire: u32) -> Result<(), WitnessError> {
        let len = self.about.prime.words().len();
        let words = self.running.words(len).ok_or(WitnessError::Outside {
            what: "the place of a number",
        })?;
        let words = Zeroizing::new(words);
        if !self.about.prime.is_above(&words[..len]) {
            return Err(WitnessError::Range { wire });
        }
        let bytes = words[..len].iter().flat_map(|word| word.to_le_bytes());
        // The whole file's room was reserved: nothing secret moves and stays behind.
        self.file.extend(bytes);
        Ok(())
    }

    /// Begins a call, or goes on with the one that was left.
    fn call(
        &mut self,
        function: Func,
        arguments: &[i32],
        results: usize,
    ) -> Result<Called, WitnessError> {
        let mut result = [Val::I32(0)];
        loop {
            if self.reading.is_some() {
                match self.read_message()? {
                    Called::Paused => return Ok(Called::Paused),
                    Called::Returned(_) => {}
                }
            }
            let store = &mut self.running.store;
            let outputs = &mut result[..results];
            let called = if let Some(waiting) = self.reading.take() {
                waiting.resume(store, &[], outputs)
            } else if let Some(paused) = self.paused.take() {
                paused.resume(store, outputs)
            } else {
                self.charge(HOST_CALL_FUEL);
                let arguments: Vec<Val> = arguments.iter().map(|it| Val::I32(*it)).collect();
                let store = &mut self.running.store;
                function.call_resumable(store, &arguments, &mut result[..results])
            };
            match called.map_err(|error| trap(&error))? {
                ResumableCall::Finished => {
                    return Ok(Called::Returned(result[0].i32().unwrap_or(0)));
                }
                ResumableCall::OutOfFuel(call) => {
                    self.paused = Some(call);
                    refuel(&mut self.running.store, 0);
                    return Ok(Called::Paused);
                }
                ResumableCall::HostTrap(call) => match call.host_error().downcast_ref() {
                    Some(HostCall::Message) => self.reading = Some(call),
                    Some(HostCall::Exception(code)) => {
                        return Err(WitnessError::Circuit {
                            kind: (*code).into(),
                            message: self.lines(),
                        });
                    }
                    None => return Err(trap(call.host_error())),
                },
            }
        }
    }

    /// Fetches a message of circom's runtime, letter by letter.
    fn read_message(&mut self) -> Result<Called, WitnessError> {
        let function = self.running.functions.message_char;
        let mut result = [Val::I32(0)];
        loop {
            if self.fuel() == 0 {
                return Ok(Called::Paused);
            }
            self.charge(HOST_CALL_FUEL);
            let store = &mut self.running.store;
            let called = match self.paused.take() {
                Some(paused) => paused.resume(store, &mut result),
                None => function.call_resumable(store, &[], &mut result),
            };
            match called.map_err(|error| trap(&error))? {
                ResumableCall::Finished => {}
                ResumableCall::OutOfFuel(call) => {
                    self.paused = Some(call);
                    refuel(&mut self.running.store, 0);
                    return Ok(Called::Paused);
                }
                ResumableCall::HostTrap(call) => return Err(trap(call.host_error())),
            }
            let letter = result[0].i32().unwrap_or(0);
            let letter = u8::try_from(letter).unwrap_or(b'?');
            match letter {
                0 => {
                    if self.message.len() < MESSAGE_BYTES_MAX {
                        self.message.push('\n');
                    }
                    return Ok(Called::Returned(0));
                }
                _ if self.message.len() >= MESSAGE_BYTES_MAX => {}
                b' '..=b'~' => self.message.push(char::from(letter)),
                _ => self.message.push(' '),
            }
        }
    }

    /// circom's messages, the assertion first, then the components around it.
    fn lines(&self) -> String {
        let lines = self.message.lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        lines.join("; ")
    }

    fn given(&self) -> String {
        let names: Vec<&str> = self.inputs.signals().iter().map(|it| &*it.name).collect();
        match names.len() {
            0 => "no signal".to_owned(),
            1..=16 => names.join(", "),
            count => format!("{count} signals"),
        }
    }

    fn fuel(&self) -> u64 {
        self.running
            .store
            .get_fuel()
            .expect("the engine was configured to count fuel")
    }

    fn charge(&mut self, fuel: u64) {
        let left = self.fuel().saturating_sub(fuel);
        refuel(&mut self.running.store, left);
    }
}

impl Drop for Calculation {
    fn drop(&mut self) {
        let running = &mut self.running;
        running.memory.data_mut(&mut running.store).zeroize();
    }
}

/// Head of the file, with room for the rest.
fn head(about: &About) -> Vec<u8> {
    let prime = about.prime.words();
    let element = 4 * prime.len();
    let elements = element * about.witness as usize;
    let mut file = Vec::with_capacity(76 + element + elements);
    file.extend_from_slice(b"wtns");
    for number in [2u32, 2, 1] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&(4 + element as u64 + 4).to_le_bytes());
    file.extend_from_slice(&(element as u32).to_le_bytes());
    file.extend(prime.iter().flat_map(|word| word.to_le_bytes()));
    file.extend_from_slice(&about.witness.to_le_bytes());
    file.extend_from_slice(&2u32.to_le_bytes());
    file.extend_from_slice(&(elements as u64).to_le_bytes());
    file
}

/// What a program did that its machine does not allow.
fn trap(error: &wasmi::Error) -> WitnessError {
    let why = match error.as_trap_code() {
        Some(TrapCode::UnreachableCodeReached) => "it reached code that is marked unreachable",
        Some(TrapCode::MemoryOutOfBounds) => "it reached outside of its memory",
        Some(TrapCode::TableOutOfBounds | TrapCode::IndirectCallToNull) => {
            "it called a function that does not exist"
        }
        Some(TrapCode::BadSignature) => "it called a function with other parameters",
        Some(TrapCode::IntegerDivisionByZero | TrapCode::IntegerOverflow) => "it divided by zero",
        Some(TrapCode::StackOverflow) => "its calls nest too deep",
        Some(TrapCode::GrowthOperationLimited) => "it asked for more memory than is allowed",
        _ => "it broke a rule of its machine",
    };
    WitnessError::Trap { why }
}

/// Bytes of circom's messages that are kept: a line for each component from the assertion up.
const MESSAGE_BYTES_MAX: usize = 1024;
