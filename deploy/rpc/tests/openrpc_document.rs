//! `docs/openrpc.json` says what the code does: the same methods, the same fields, required where
//! the code requires them, the same errors, and examples that are read and written back unchanged.

use std::collections::BTreeSet;

use caldera_rpc::era;
use caldera_rpc::error::{
    EraFault, Full, InputsFault, KeyFault, RpcError, StateLack, StateRule, WitnessFault,
};
use caldera_rpc::methods::{
    AddTenant, Address, Bill, BoundTerms, CauseSpans, CheckLevel, CircuitInfo, CircuitName,
    CircuitState, CoreShare, CurveName, DeclareDemand, Demand, DeviceSoftware, DeviceStatus,
    Digest, EmptyReallocations, Estimate, EstimateProof, FleetBill, FleetBillQuery, FleetDone,
    FleetHeld, FleetHeldQuery, FleetMeter, FleetMetered, FleetResult, FleetReturn, FleetTake,
    FleetTaken, GrantTerms, HistogramsQuery, IdempotencyKey, JobError, JobName, JobProfile,
    JobQuery, JobResult, JobState, JobStatus, JobWait, LentCircuit, LentJob, LentName, LentWitness,
    Link, ListCircuits, ListTenants, Metered, Method, OpenRequest, PoolQuery, PoolStatus, Present,
    PresentationInfo, ProfileQuery, ProfiledQuantum, ProfiledReallocation, ProfiledStage,
    ProfiledUnit, PublishIssuers, Quanta, Quotas, Reallocation, Reallocations, RegisterCircuit,
    RequestInfo, RequestTerms, Reuse, Revoke, RotateTenant, Scope, ScopeTerms, SetTerms,
    SpanHistogram, StageTiming, StateInfo, StateQuery, StorageQuery, StorageRelease, StorageStatus,
    Submit, TenantDetail, TenantInfo, TenantQuery, TenantSecret, TenantState, TenantStatus,
    TenantStorage, Timings, UnitStatus, UnregisterCircuit, Unregistered, VerifyPresentation,
    WitnessData, Word,
};
use caldera_rpc::openrpc::{DISCOVER, document};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads a value as a `T` and writes it back.
fn through<T: Serialize + DeserializeOwned>(value: Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

type Through = fn(Value) -> Result<Value, String>;

fn params_of(method: Method) -> Through {
    match method {
        Method::RegisterCircuit => through::<RegisterCircuit>,
        Method::ListCircuits => through::<ListCircuits>,
        Method::UnregisterCircuit => through::<UnregisterCircuit>,
        Method::Estimate => through::<EstimateProof>,
        Method::Submit => through::<Submit>,
        Method::Status | Method::Result => through::<JobWait>,
        Method::Cancel => through::<JobQuery>,
        Method::Profile => through::<ProfileQuery>,
        Method::Pool => through::<PoolQuery>,
        Method::Demand => through::<DeclareDemand>,
        Method::Histograms => through::<HistogramsQuery>,
        Method::Storage => through::<StorageQuery>,
        Method::EraAccount => through::<era::AccountQuery>,
        Method::EraAdopt => through::<era::Adopt>,
        Method::EraClaim => through::<era::Claim>,
        Method::EraClawBack => through::<era::ClawBack>,
        Method::EraClose => through::<era::CloseEpoch>,
        Method::EraEpoch => through::<era::EpochQuery>,
        Method::EraExplain => through::<era::ExplainQuery>,
        Method::EraOffset => through::<era::Offset>,
        Method::EraPolicy => through::<era::PolicyQuery>,
        Method::EraRegister => through::<era::RegisterParty>,
        Method::EraRetention => through::<era::RetentionQuery>,
        Method::EraSettle => through::<era::Settle>,
        Method::EraStake => through::<era::Stake>,
        Method::EraStatement => through::<era::StatementQuery>,
        Method::EraTransfer => through::<era::Transfer>,
        Method::EraUnstake => through::<era::Unstake>,
        Method::EraVerify => through::<era::VerifyOwner>,
        Method::StateIssue => through::<PublishIssuers>,
        Method::StateGrant => through::<OpenRequest>,
        Method::StatePresent => through::<Present>,
        Method::StateVerify => through::<VerifyPresentation>,
        Method::StateReuse => through::<Reuse>,
        Method::StateRevoke => through::<Revoke>,
        Method::StateGet => through::<StateQuery>,
        Method::AddTenant => through::<AddTenant>,
        Method::RotateTenant => through::<RotateTenant>,
        Method::SuspendTenant | Method::ResumeTenant | Method::RemoveTenant => {
            through::<TenantQuery>
        }
        Method::ListTenants => through::<ListTenants>,
        Method::FleetTake => through::<FleetTake>,
        Method::FleetHeld => through::<FleetHeldQuery>,
        Method::FleetResult => through::<FleetResult>,
        Method::FleetReturn => through::<FleetReturn>,
        Method::FleetBill => through::<FleetBillQuery>,
        Method::FleetMeter => through::<FleetMeter>,
    }
}

fn result_of(method: Method) -> Through {
    match method {
        Method::RegisterCircuit => through::<CircuitInfo>,
        Method::ListCircuits => through::<Vec<CircuitInfo>>,
        Method::UnregisterCircuit => through::<Unregistered>,
        Method::Estimate => through::<Estimate>,
        Method::Submit | Method::Status | Method::Cancel => through::<JobStatus>,
        Method::Result => through::<JobResult>,
        Method::Profile => through::<JobProfile>,
        Method::Pool => through::<PoolStatus>,
        Method::Demand => through::<Demand>,
        Method::Histograms => through::<Vec<SpanHistogram>>,
        Method::Storage => through::<StorageStatus>,
        Method::EraAccount => through::<Vec<era::EraAccount>>,
        Method::EraAdopt
        | Method::EraClaim
        | Method::EraClawBack
        | Method::EraClose
        | Method::EraOffset
        | Method::EraRegister
        | Method::EraSettle
        | Method::EraStake
        | Method::EraTransfer
        | Method::EraUnstake
        | Method::EraVerify => through::<era::EraReceipt>,
        Method::EraEpoch => through::<era::EraEpochs>,
        Method::EraExplain => through::<era::EraExplanation>,
        Method::EraPolicy => through::<era::EraPolicy>,
        Method::EraRetention => through::<era::EraRetention>,
        Method::EraStatement => through::<era::EraStatement>,
        Method::StateIssue | Method::StateGrant | Method::StateRevoke | Method::StateGet => {
            through::<StateInfo>
        }
        Method::StatePresent => through::<JobStatus>,
        Method::StateVerify | Method::StateReuse => through::<PresentationInfo>,
        Method::AddTenant | Method::RotateTenant => through::<TenantSecret>,
        Method::SuspendTenant | Method::ResumeTenant | Method::RemoveTenant => {
            through::<TenantInfo>
        }
        Method::ListTenants => through::<Vec<TenantInfo>>,
        Method::FleetTake => through::<FleetTaken>,
        Method::FleetHeld => through::<FleetHeld>,
        Method::FleetResult | Method::FleetReturn => through::<FleetDone>,
        Method::FleetBill => through::<FleetBill>,
        Method::FleetMeter => through::<FleetMetered>,
    }
}

const SCHEMAS: [(&str, Through); 90] = [
    ("Digest", through::<Digest>),
    ("JobName", through::<JobName>),
    ("CircuitName", through::<CircuitName>),
    ("IdempotencyKey", through::<IdempotencyKey>),
    ("WitnessData", through::<WitnessData>),
    ("CheckLevel", through::<CheckLevel>),
    ("CurveName", through::<CurveName>),
    ("CircuitState", through::<CircuitState>),
    ("JobState", through::<JobState>),
    ("JobError", through::<JobError>),
    ("CircuitInfo", through::<CircuitInfo>),
    ("Unregistered", through::<Unregistered>),
    ("Estimate", through::<Estimate>),
    ("JobStatus", through::<JobStatus>),
    ("StageTiming", through::<StageTiming>),
    ("CoreShare", through::<CoreShare>),
    ("Timings", through::<Timings>),
    ("JobResult", through::<JobResult>),
    ("ProfiledUnit", through::<ProfiledUnit>),
    ("ProfiledStage", through::<ProfiledStage>),
    ("ProfiledQuantum", through::<ProfiledQuantum>),
    ("ProfiledReallocation", through::<ProfiledReallocation>),
    ("JobProfile", through::<JobProfile>),
    ("UnitStatus", through::<UnitStatus>),
    ("TenantDetail", through::<TenantDetail>),
    ("DeviceSoftware", through::<DeviceSoftware>),
    ("DeviceStatus", through::<DeviceStatus>),
    ("TenantStatus", through::<TenantStatus>),
    ("CauseSpans", through::<CauseSpans>),
    ("Reallocation", through::<Reallocation>),
    ("EmptyReallocations", through::<EmptyReallocations>),
    ("Reallocations", through::<Reallocations>),
    ("Quanta", through::<Quanta>),
    ("PoolStatus", through::<PoolStatus>),
    ("Demand", through::<Demand>),
    ("SpanHistogram", through::<SpanHistogram>),
    ("TenantStorage", through::<TenantStorage>),
    ("StorageRelease", through::<StorageRelease>),
    ("StorageStatus", through::<StorageStatus>),
    ("Word", through::<Word>),
    ("Address", through::<Address>),
    ("Link", through::<Link>),
    ("RequestTerms", through::<RequestTerms>),
    ("ScopeTerms", through::<ScopeTerms>),
    ("BoundTerms", through::<BoundTerms>),
    ("SetTerms", through::<SetTerms>),
    ("GrantTerms", through::<GrantTerms>),
    ("StateInfo", through::<StateInfo>),
    ("RequestInfo", through::<RequestInfo>),
    ("PresentationInfo", through::<PresentationInfo>),
    ("Scope", through::<Scope>),
    ("Quotas", through::<Quotas>),
    ("TenantState", through::<TenantState>),
    ("TenantInfo", through::<TenantInfo>),
    ("TenantSecret", through::<TenantSecret>),
    ("Amount", through::<era::Amount>),
    ("Change", through::<era::Change>),
    ("EraId", through::<era::EraId>),
    ("EraRole", through::<era::EraRole>),
    ("EraAsset", through::<era::EraAsset>),
    ("EraReceipt", through::<era::EraReceipt>),
    ("EraAccount", through::<era::EraAccount>),
    ("EraPayout", through::<era::EraPayout>),
    ("EraStake", through::<era::EraStake>),
    ("EraUnbonding", through::<era::EraUnbonding>),
    ("EraStatement", through::<era::EraStatement>),
    ("EraLine", through::<era::EraLine>),
    ("EraExplanation", through::<era::EraExplanation>),
    ("EraStream", through::<era::EraStream>),
    ("EraEvent", through::<era::EraEvent>),
    ("EraPolicy", through::<era::EraPolicy>),
    ("EraEpochs", through::<era::EraEpochs>),
    ("EraEpoch", through::<era::EraEpoch>),
    ("EraRetention", through::<era::EraRetention>),
    ("EraKept", through::<era::EraKept>),
    ("EraLeg", through::<era::EraLeg>),
    ("FleetTaken", through::<FleetTaken>),
    ("FleetHeld", through::<FleetHeld>),
    ("FleetDone", through::<FleetDone>),
    ("FleetBill", through::<FleetBill>),
    ("FleetMetered", through::<FleetMetered>),
    ("Bill", through::<Bill>),
    ("Metered", through::<Metered>),
    ("PublicKey", through::<era::PublicKey>),
    ("NodeName", through::<era::NodeName>),
    ("Signature", through::<era::Signature>),
    ("LentJob", through::<LentJob>),
    ("LentCircuit", through::<LentCircuit>),
    ("LentWitness", through::<LentWitness>),
    ("LentName", through::<LentName>),
];

/// The keys of an object, and those of them that are always written: without which it is not
/// read, or is read and written back with them.
fn fields(example: &Map<String, Value>, through: Through) -> (BTreeSet<String>, BTreeSet<String>) {
    let without = |key: &String| {
        let mut less = example.clone();
        less.remove(key);
        through(Value::Object(less))
    };
    let required = example.keys().filter(|key| match without(key) {
        Err(_) => true,
        Ok(written) => written.get(key).is_some(),
    });
    (
        example.keys().cloned().collect(),
        required.cloned().collect(),
    )
}

fn strings(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().expect("a list");
    let text = |item: &Value| item.as_str().expect("a string").to_owned();
    list.iter().map(text).collect()
}

#[test]
fn every_method_and_its_parameters() {
    let document = document();
    let methods = document["methods"].as_array().expect("a list");
    let names: Vec<&str> = methods
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert_eq!(names, Method::ALL.map(Method::name));

    for (method, written) in Method::ALL.into_iter().zip(methods) {
        let name = method.name();
        let params = params_of(method);
        // The example gives every parameter but one that stands in the place of others; of that there may be another example.
        let other = match method {
            Method::Submit => Some("inputs"),
            Method::EraRegister => Some("key"),
            _ => None,
        };
        let mut example = Map::new();
        for param in written["examples"][0]["params"].as_array().expect("a list") {
            let key = param["name"].as_str().expect("a name").to_owned();
            example.insert(key, param["value"].clone());
        }
        let back = params(Value::Object(example.clone()));
        assert_eq!(back, Ok(Value::Object(example.clone())), "{name}");
        // A required one cannot be left out, and the others can.
        for param in written["params"].as_array().expect("a list") {
            let key = param["name"].as_str().expect("a name");
            let mut less = example.clone();
            assert!(
                less.remove(key).is_some() || Some(key) == other,
                "{name}: {key} has no example"
            );
            if (name, key) == (Method::Submit.name(), "witness") {
                // Inputs can stand in its place, and then there are no bytes of it.
                less.remove("witnessData");
                less.insert("inputs".to_owned(), Value::Object(Map::new()));
            }
            let required = params(Value::Object(less)).is_err();
            assert_eq!(param["required"], required, "{name}: {key}");
        }
        assert_eq!(
            written["params"].as_array().map(Vec::len),
            Some(example.len() + usize::from(other.is_some())),
            "{name}"
        );
        for more in &written["examples"].as_array().expect("a list")[1..] {
            let given = more["params"].as_array().expect("a list").iter();
            let given = given.map(|it| (it["name"].as_str().expect("a name"), &it["value"]));
            let given: Value = given
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect();
            assert_eq!(params(given.clone()), Ok(given), "{name}");
        }
        // There are no others that the code would take: it refuses what it does not know.
        example.insert("unknown".to_owned(), Value::Null);
        assert!(params(Value::Object(example)).is_err(), "{name}");

        let result = &written["examples"][0]["result"]["value"];
        assert_eq!(
            result_of(method)(result.clone()).as_ref(),
            Ok(result),
            "{name}"
        );
    }
}

/// The other direction: a parameter that the code takes and the document leaves out.
#[test]
fn no_parameter_is_left_out() {
    let digest = Digest([0; 32]);
    let word = Word([0; 32]);
    let (terms, grant) = (request_terms(), grant_terms());
    let wait = JobWait {
        job: JobName(0),
        wait_ms: Some(1),
    };
    let metered = Metered {
        node: 1,
        observed: 1,
        signature: era::Signature([0; 64]),
    };
    let full = [
        serde_json::to_value(RegisterCircuit {
            zkey: digest,
            name: "x".parse().ok(),
            check: CheckLevel::Full,
            source: Some(String::new()),
            witness_program: Some(digest),
            r1cs: Some(digest),
        }),
        serde_json::to_value(ListCircuits {}),
        serde_json::to_value(UnregisterCircuit { circuit: digest }),
        serde_json::to_value(EstimateProof { circuit: digest }),
        serde_json::to_value(Submit {
            circuit: digest,
            witness: digest,
            witness_data: WitnessData::new(Vec::new()),
            deadline_ms: Some(1),
            idempotency_key: "x".parse().ok(),
        }),
        serde_json::to_value(wait),
        serde_json::to_value(wait),
        serde_json::to_value(JobQuery { job: JobName(0) }),
        serde_json::to_value(ProfileQuery {
            job: JobName(0),
            from: Some(1),
        }),
        serde_json::to_value(PoolQuery {}),
        serde_json::to_value(DeclareDemand {
            units: 1,
            duration_ms: Some(1),
        }),
        serde_json::to_value(HistogramsQuery {
            cause: Some("turn".to_owned()),
        }),
        serde_json::to_value(StorageQuery {}),
        serde_json::to_value(era::AccountQuery { party: Some(1) }),
        serde_json::to_value(era::Adopt {
            id: era::EraId(1),
            epoch: 1,
            policy: String::new(),
        }),
        serde_json::to_value(era::Claim {
            id: era::EraId(1),
            party: 1,
            up_to: Some(1),
            stake: Some(era::EraId(1)),
            unbonding: Some(era::EraId(1)),
        }),
        serde_json::to_value(era::ClawBack {
            id: era::EraId(1),
            party: 1,
            epoch: 1,
            node: 1,
            sequence: 1,
            reason: String::new(),
        }),
        serde_json::to_value(era::CloseEpoch { epoch: 1 }),
        serde_json::to_value(era::EpochQuery { before: Some(1) }),
        serde_json::to_value(era::ExplainQuery { party: 1, epoch: 1 }),
        serde_json::to_value(era::Offset {
            id: era::EraId(1),
            party: 1,
            era_max: era::Amount(1),
            receipt: digest,
            gas_used: 1,
            gas_price: era::Amount(1),
        }),
        serde_json::to_value(era::PolicyQuery {}),
        serde_json::to_value(era::RegisterParty {
            id: era::EraId(1),
            tenant: Some(String::new()),
            role: era::EraRole::User,
            key: Some(era::PublicKey([0; 32])),
            owner: 1,
            verified: Some(true),
            address: Address([0; 20]),
        }),
        serde_json::to_value(era::RetentionQuery {}),
        serde_json::to_value(era::Settle {
            id: era::EraId(1),
            epoch: 1,
        }),
        serde_json::to_value(era::Stake {
            id: era::EraId(1),
            party: 1,
            amount: Some(era::Amount(1)),
            standing: Some(true),
        }),
        serde_json::to_value(era::StatementQuery {
            party: 1,
            from: Some(1),
        }),
        serde_json::to_value(era::Transfer {
            id: era::EraId(1),
            legs: Vec::new(),
        }),
        serde_json::to_value(era::Unstake {
            id: era::EraId(1),
            party: 1,
            stake: era::EraId(1),
            amount: era::Amount(1),
        }),
        serde_json::to_value(era::VerifyOwner {
            id: era::EraId(1),
            owner: 1,
            verified: true,
        }),
        serde_json::to_value(PublishIssuers { issuers_root: word }),
        serde_json::to_value(OpenRequest {
            request: terms.clone(),
            closes: 1,
        }),
        serde_json::to_value(Present {
            circuit: digest,
            grant,
            opening: WitnessData::new(Vec::new()),
            witness: Some(digest),
            deadline_ms: Some(1),
            idempotency_key: "x".parse().ok(),
        }),
        serde_json::to_value(VerifyPresentation {
            proof: Value::Null,
            public_inputs: Vec::new(),
            grant,
        }),
        serde_json::to_value(Reuse {
            grant: word,
            link: Link([0; 20]),
        }),
        serde_json::to_value(Revoke {
            revocation_root: Some(word),
            request: Some(word),
        }),
        serde_json::to_value(StateQuery {
            grant: Some(word),
            request: Some(word),
        }),
        serde_json::to_value(AddTenant {
            tenant: String::new(),
            scenario: String::new(),
            scopes: Some(Vec::new()),
            quotas: Some(Quotas::default()),
        }),
        serde_json::to_value(RotateTenant {
            tenant: String::new(),
            overlap_ms: Some(1),
        }),
        serde_json::to_value(TenantQuery {
            tenant: String::new(),
        }),
        serde_json::to_value(TenantQuery {
            tenant: String::new(),
        }),
        serde_json::to_value(TenantQuery {
            tenant: String::new(),
        }),
        serde_json::to_value(ListTenants {}),
        serde_json::to_value(FleetTake {
            max: 1,
            cursor: 1,
            wait_ms: Some(1),
        }),
        serde_json::to_value(FleetHeldQuery {}),
        serde_json::to_value(FleetResult {
            job: JobName(0),
            fence: 1,
            proof: Value::Null,
            metered: Some(metered),
        }),
        serde_json::to_value(FleetReturn {
            job: JobName(0),
            fence: 1,
        }),
        serde_json::to_value(FleetBillQuery {
            job: JobName(0),
            fence: 1,
            lender: era::NodeName(0),
        }),
        serde_json::to_value(FleetMeter {
            job: JobName(0),
            bill: Bill {
                node: 1,
                sequence: 1,
                hold: era::EraId(1),
                class: 1,
                developer: Some(1),
                fee: era::Amount(1),
            },
        }),
    ];
    let document = document();
    for (full, written) in full
        .into_iter()
        .zip(document["methods"].as_array().unwrap())
    {
        let mut full = full.expect("JSON");
        if written["name"] == Method::Submit.name() {
            // Read into `witnessData`, as which it is written.
            full["inputs"] = Value::Null;
        }
        let taken: BTreeSet<&str> = full
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        let params = written["params"].as_array().expect("a list");
        let named = params.iter().filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(taken, named, "{}", written["name"]);
    }
}

#[test]
fn every_schema_is_a_type() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let known: BTreeSet<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
    let written: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(written, known);

    for (name, through) in SCHEMAS {
        let schema = &schemas[name];
        let mut shown = BTreeSet::new();
        for example in schema["examples"].as_array().expect("examples") {
            assert_eq!(through(example.clone()).as_ref(), Ok(example), "{name}");
            if let Some(object) = example.as_object() {
                // `example` survives being read and written, so it has no field that the code lacks;
                // `every_field_has_an_example` holds the other direction.
                let (keys, required) = fields(object, through);
                shown.extend(keys);
                assert_eq!(strings(&schema["required"]), required, "{name}");
            }
        }
        // Where not all can be there at once, several examples show them.
        if !shown.is_empty() {
            let properties = schema["properties"].as_object().expect("properties");
            let properties: BTreeSet<String> = properties.keys().cloned().collect();
            assert_eq!(properties, shown, "{name}");
        }
        for variant in schema["enum"].as_array().into_iter().flatten() {
            assert_eq!(through(variant.clone()).as_ref(), Ok(variant), "{name}");
        }
    }
}

/// Fields that the code may leave out are the ones that a document can forget. This counts them:
/// who adds one has to add it here and to the example.
#[test]
fn every_field_has_an_example() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let status = JobStatus {
        job: JobName(0),
        circuit: Digest([0; 32]),
        state: JobState::Failed,
        progress: 0.0,
        submitted_ms: 0,
        deadline_ms: Some(0),
        started_ms: Some(0.0),
        finished_ms: Some(0.0),
        late: Some(false),
        error: Some(failure()),
    };
    let circuit = CircuitInfo {
        circuit: Digest([0; 32]),
        name: None,
        curve: CurveName::Bn128,
        domain_size: 0,
        public_count: 0,
        wires: 0,
        bytes: 0,
        state: CircuitState::Failed,
        resident: true,
        source: Some(String::new()),
        witness_program: Some(Digest([0; 32])),
        r1cs: Some(Digest([2; 32])),
        error: Some(failure()),
        development: false,
        verification_key: Some(Value::Null),
    };
    let unit = UnitStatus {
        unit: 0,
        core: 0,
        device: Some(String::new()),
        thread_id: 0,
        owner: None,
        foreign: false,
        epoch: 0,
        job: Some(JobName(0)),
        since_ms: 0.0,
        busy: Some(true),
        policy: String::new(),
        numa_node: Some(0),
        memory_bytes: Some(0),
        key_bytes: Some(0),
        table_bytes: Some(0),
    };
    let detail = TenantDetail {
        preparing: 0,
        wants: 0,
        lends: false,
        guarantee_percent: 0.0,
        core_ms: 0.0,
        device_bytes: 0,
        job_bytes: 0,
        slack_ms: Some(0.0),
    };
    let tenant = TenantStatus {
        tenant: None,
        foreign: false,
        scenario: None,
        queued: 0,
        running: 0,
        cores: 0,
        declared: 0,
        peak: false,
        detail: Some(detail),
    };
    let device = DeviceStatus {
        kind: String::new(),
        name: String::new(),
        pci: Some(String::new()),
        uuid: Some(String::new()),
        lost: Some(String::new()),
        fallen_back: 0,
        software: Vec::new(),
    };
    let profile = JobProfile {
        status: status.clone(),
        preparing_us: Some(0.0),
        prepared_us: Some(0.0),
        units: Vec::new(),
        stages: Vec::new(),
        total: 0,
        lost: 0,
        quanta: Vec::new(),
        next: Some(0),
        reallocations: Vec::new(),
    };
    let profiled = ProfiledUnit {
        unit: 0,
        core: 0,
        device: Some(String::new()),
    };
    let stage = ProfiledStage {
        part: String::new(),
        kernel: String::new(),
        size: 0,
        bytes: 0,
        table_bytes: Some(0),
    };
    let storage = TenantStorage {
        tenant: String::new(),
        scenario: String::new(),
        tables_bytes: 0,
        keys_bytes: 0,
        blobs_bytes: 0,
        quiet: false,
        due_ms: Some(0.0),
    };
    let release = StorageRelease {
        release: 0,
        tenant: String::new(),
        scenario: String::new(),
        at_ms: 0,
        quiet_since_ms: 0,
        held_bytes: 0,
        tables_bytes: 0,
        keys_bytes: 0,
        blobs_bytes: 0,
        short_bytes: 0,
        short_reason: Some(String::new()),
        taken_again_ms: Some(0),
    };
    let bound = BoundTerms {
        claim: String::new(),
        least: Some(String::new()),
        greatest: Some(String::new()),
    };
    let state = StateInfo {
        domain: Word([0; 32]),
        address: Some(Address([0; 20])),
        issuers_root: Some(Word([0; 32])),
        revocation_root: Some(Word([0; 32])),
        window_seconds: 0,
        request: Some(RequestInfo {
            request: Word([0; 32]),
            closes: 0,
        }),
        presentation: Some(PresentationInfo {
            grant: Word([0; 32]),
            verifier: Address([0; 20]),
            sender: Address([0; 20]),
            request: Word([0; 32]),
            link: Link([0; 20]),
            remaining: 0,
            expiry: 0,
        }),
    };
    let digest = Digest([0; 32]);
    for (name, full) in [
        ("BoundTerms", serde_json::to_value(bound)),
        ("RequestTerms", serde_json::to_value(request_terms())),
        ("StateInfo", serde_json::to_value(state)),
        (
            "EraReceipt",
            serde_json::to_value(era::EraReceipt {
                record: 1,
                repeated: true,
                moved: Some(era::Amount(1)),
                staked: Some(era::Amount(1)),
                charged: Some(era::Amount(1)),
                reimbursed: Some(era::Amount(1)),
                party: Some(1),
                root: Some(digest),
                reason: Some(digest),
            }),
        ),
        (
            "EraAccount",
            serde_json::to_value(era::EraAccount {
                party: 1,
                tenant: Some(String::new()),
                role: era::EraRole::User,
                owner: 1,
                verified: true,
                address: Address([0; 20]),
                standing: true,
                free: era::Amount(1),
                held: era::Amount(1),
                staked: era::Amount(1),
                unbonding: era::Amount(1),
                payable: era::Amount(1),
                gas: era::Amount(1),
                payouts: Vec::new(),
                stakes: Vec::new(),
                unbondings: Vec::new(),
            }),
        ),
        (
            "EraStatement",
            serde_json::to_value(era::EraStatement {
                party: 1,
                lines: Vec::new(),
                next: Some(1),
            }),
        ),
        (
            "EraEvent",
            serde_json::to_value(era::EraEvent {
                record: 1,
                node: 1,
                sequence: 1,
                observed_at: 1,
                what: String::new(),
                fee: Some(era::Amount(1)),
                class: Some(String::new()),
            }),
        ),
        ("JobProfile", serde_json::to_value(profile)),
        ("ProfiledUnit", serde_json::to_value(profiled)),
        ("ProfiledStage", serde_json::to_value(stage)),
        ("TenantStorage", serde_json::to_value(storage)),
        ("StorageRelease", serde_json::to_value(release)),
        ("JobStatus", serde_json::to_value(status)),
        ("CircuitInfo", serde_json::to_value(circuit)),
        ("UnitStatus", serde_json::to_value(unit)),
        ("TenantDetail", serde_json::to_value(detail)),
        ("TenantStatus", serde_json::to_value(tenant)),
        ("DeviceStatus", serde_json::to_value(device)),
    ] {
        let full = full.expect("JSON");
        let written = schemas[name]["properties"].as_object().unwrap();
        assert!(
            full.as_object().unwrap().keys().eq(written.keys()),
            "{name}"
        );
    }
}

fn request_terms() -> RequestTerms {
    RequestTerms {
        schema: String::new(),
        scope: ScopeTerms {
            scenario: String::new(),
            purpose: String::new(),
            epoch: 0,
        },
        valid_through: 0,
        presentations: 1,
        bounds: Vec::new(),
        set: Some(SetTerms {
            claim: String::new(),
            values: Vec::new(),
        }),
    }
}

fn grant_terms() -> GrantTerms {
    GrantTerms {
        verifier: Address([0; 20]),
        sender: Address([0; 20]),
        request: Word([0; 32]),
        tip: Link([0; 20]),
        uses: 0,
        expiry: 0,
        challenge: Word([0; 32]),
    }
}

fn failure() -> JobError {
    JobError {
        code: 0,
        reason: String::new(),
        message: String::new(),
    }
}

/// One of each; the match makes a new one fail to compile here.
fn errors() -> Vec<RpcError> {
    let detail = String::new;
    let (circuit, job) = (Digest([0; 32]), JobName(0));
    let queue_full = |full| RpcError::QueueFull {
        full,
        retry_after_ms: 1,
    };
    let mut all = vec![
        RpcError::Parse { detail: detail() },
        RpcError::InvalidRequest { detail: detail() },
        RpcError::MethodNotFound,
        RpcError::misfit("deadlineMs", detail()),
        RpcError::Internal,
        queue_full(Full::Tenant),
        queue_full(Full::Box),
        queue_full(Full::Calls),
        queue_full(Full::Rate),
        RpcError::CircuitUnknown { circuit },
        RpcError::CircuitNotReady {
            circuit,
            state: CircuitState::Checking,
        },
        RpcError::DevelopmentKey,
        RpcError::CircuitInUse { circuit, jobs: 1 },
        RpcError::BlobUnknown { digest: circuit },
        RpcError::SelfCheckFailed,
        RpcError::JobUnknown { job },
        RpcError::JobNotFinished {
            job,
            state: JobState::Running,
        },
        RpcError::JobCancelled { job },
        RpcError::IdempotencyConflict { job },
        RpcError::QuotaExceeded { detail: detail() },
        RpcError::StorageFull,
        RpcError::StorageUnavailable { retry_after_ms: 1 },
        RpcError::Stopping,
        RpcError::DeadlineUnmeetable { earliest_ms: 1 },
        RpcError::DemandAboveCeiling { ceiling: 1, got: 2 },
        RpcError::DemandDuration {
            max_ms: 1,
            got_ms: 2,
        },
        RpcError::KeySource { detail: detail() },
        RpcError::ProfileUnavailable { job, detail: "" },
        RpcError::ProgramRefused { detail: detail() },
        RpcError::ProgramMissing { circuit },
        RpcError::ConstraintsRefused { detail: detail() },
        RpcError::OutOfScope { scope: "submit" },
        RpcError::AccessEnded,
        RpcError::JobNotLent { job },
        RpcError::FenceStale {
            job,
            expected: 2,
            got: 1,
        },
        RpcError::LentProofWrong { detail: detail() },
        RpcError::FleetCursor {
            oldest: 1,
            newest: 2,
            got: 3,
        },
        RpcError::TenantUnknown { tenant: detail() },
        RpcError::TenantState {
            tenant: detail(),
            detail: "",
        },
    ];
    all.extend(KeyFault::ALL.iter().map(|&fault| RpcError::KeyRefused {
        fault,
        detail: detail(),
    }));
    all.extend(
        WitnessFault::ALL
            .iter()
            .map(|&fault| RpcError::WitnessRefused {
                fault,
                detail: detail(),
            }),
    );
    all.extend(
        InputsFault::ALL
            .iter()
            .map(|&fault| RpcError::InputsRefused {
                fault,
                detail: detail(),
            }),
    );
    all.extend(StateRule::ALL.iter().map(|&rule| RpcError::StateRefused {
        rule,
        detail: detail(),
    }));
    all.extend(StateLack::ALL.iter().map(|&lack| RpcError::StateUnserved {
        lack,
        detail: detail(),
    }));
    all.extend(EraFault::ALL.iter().map(|&fault| RpcError::Era {
        fault,
        detail: detail(),
    }));
    for error in &all {
        match error {
            RpcError::Era { .. } => {}
            RpcError::Parse { .. }
            | RpcError::InvalidRequest { .. }
            | RpcError::MethodNotFound
            | RpcError::InvalidParams { .. }
            | RpcError::Internal
            | RpcError::QueueFull { .. }
            | RpcError::OutOfScope { .. }
            | RpcError::StateRefused { .. }
            | RpcError::StateUnserved { .. }
            | RpcError::TenantUnknown { .. }
            | RpcError::TenantState { .. }
            | RpcError::CircuitUnknown { .. }
            | RpcError::CircuitNotReady { .. }
            | RpcError::KeyRefused { .. }
            | RpcError::DevelopmentKey
            | RpcError::CircuitInUse { .. }
            | RpcError::BlobUnknown { .. }
            | RpcError::WitnessRefused { .. }
            | RpcError::SelfCheckFailed
            | RpcError::JobUnknown { .. }
            | RpcError::JobNotFinished { .. }
            | RpcError::JobCancelled { .. }
            | RpcError::IdempotencyConflict { .. }
            | RpcError::QuotaExceeded { .. }
            | RpcError::StorageFull
            | RpcError::StorageUnavailable { .. }
            | RpcError::Stopping
            | RpcError::DeadlineUnmeetable { .. }
            | RpcError::DemandAboveCeiling { .. }
            | RpcError::DemandDuration { .. }
            | RpcError::KeySource { .. }
            | RpcError::ProgramRefused { .. }
            | RpcError::ProgramMissing { .. }
            | RpcError::ConstraintsRefused { .. }
            | RpcError::AccessEnded
            | RpcError::JobNotLent { .. }
            | RpcError::FenceStale { .. }
            | RpcError::LentProofWrong { .. }
            | RpcError::FleetCursor { .. }
            | RpcError::InputsRefused { .. }
            | RpcError::ProfileUnavailable { .. } => {}
        }
    }
    all
}

/// Of the workspace, the document and the client there is one version; a program that is given the document alone knows where to call.
#[test]
fn one_version_and_where_to_call() {
    let document = document();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(document["info"]["version"], version);
    let package = include_str!("../../client-ts/package.json");
    let package: Value = serde_json::from_str(package).expect("JSON");
    assert_eq!(package["version"], version);
    let servers = document["servers"].as_array().expect("servers");
    assert_eq!(servers[0]["url"], "http://127.0.0.1:7420");
}

#[test]
fn every_error() {
    let document = document();
    let written = document["components"]["errors"].as_object().unwrap();
    let known: BTreeSet<&str> = errors().iter().map(RpcError::reason).collect();
    assert_eq!(
        written.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        known
    );
    // No reason twice: a program that matches on one knows what it has.
    assert_eq!(known.len(), errors().len());
    let mut codes = BTreeSet::new();
    for error in errors() {
        let wire = error.to_wire();
        let entry = &written[error.reason()];
        assert_eq!(entry["code"], wire.code, "{error}");
        let data = wire.data.expect("data");
        assert_eq!(entry["data"]["reason"], data.reason.as_str());
        assert_eq!(
            entry["data"]["retryAfterMs"].is_number(),
            data.retry_after_ms.is_some()
        );
        assert_eq!(
            entry["data"]["earliestMs"].is_number(),
            data.earliest_ms.is_some()
        );
        assert_eq!(entry["data"]["field"].is_string(), data.field.is_some());
        codes.insert(wire.code);
    }
    // What is full shares a code, whatever it is, and so do the faults of a key, those of a witness and of inputs, the
    // rules of state units, what they lack, and the refusals of the ledger.
    let shared = (4 - 1)
        + (EraFault::ALL.len() - 1)
        + (KeyFault::ALL.len() - 1)
        + (WitnessFault::ALL.len() - 1)
        + (InputsFault::ALL.len() - 1)
        + (StateRule::ALL.len() - 1)
        + (StateLack::ALL.len() - 1);
    assert_eq!(codes.len(), errors().len() - shared);
}

/// The page for people has every method as a heading and every reason.
#[test]
fn the_protocol_page_has_them_all() {
    let page = include_str!("../../../docs/protocol.md");
    for name in Method::ALL.map(Method::name).iter().chain([&DISCOVER]) {
        assert!(page.contains(&format!("\n### {name}\n")), "{name}");
    }
    for error in errors() {
        let reason = error.reason();
        assert!(page.contains(&format!("`{reason}`")), "{reason}");
    }
}

/// A `$ref` that leads nowhere breaks every generator.
#[test]
fn references_lead_somewhere() {
    fn walk(value: &Value, root: &Value, seen: &mut usize) {
        match value {
            Value::Object(members) => {
                if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                    let pointer = target.strip_prefix('#').expect("a local reference");
                    assert!(root.pointer(pointer).is_some(), "{target}");
                    *seen += 1;
                }
                members.values().for_each(|value| walk(value, root, seen));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, root, seen)),
            _ => {}
        }
    }
    let document = document();
    let mut seen = 0;
    walk(&document, &document, &mut seen);
    assert!(seen > 50);
}
