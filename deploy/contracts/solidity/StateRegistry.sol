// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// What `caldera export solidity` makes for the presentation circuit.
interface PresentationVerifier {
    function verifyProof(
        uint256[2] calldata a,
        uint256[2][2] calldata b,
        uint256[2] calldata c,
        uint256[5] calldata inputs
    ) external view returns (bool);
}

/// Counts trusted state units: a presentation is proved once, and used again by revealing the
/// next preimage of a hash chain that the proof is bound to. docs/contracts.md says who may call
/// what, docs/state-units.md what a unit is.
///
/// Whoever calls `present` or `reuse` is the sender that the holder has named in the grant, so
/// what is seen in flight (a proof, a preimage) is of no use to anybody else. The one contract that
/// is called is the verifier, by a static call: nothing can come back in.
contract StateRegistry {
    struct Proof {
        uint256[2] a;
        uint256[2][2] b;
        uint256[2] c;
    }

    /// What the holder has granted; with the registry and the sender, all that `grantOf` hashes.
    struct Grant {
        address verifier;
        uint256 request;
        uint160 tip;
        uint16 uses;
        uint40 expiry;
        bytes32 challenge;
    }

    /// A root that was or is accepted. Its window begins when it is replaced, not when it is set: one
    /// that stood for a year has been right until this very moment.
    struct Root {
        uint256 value;
        /// When it was replaced; 0 if it has not been.
        uint256 replaced;
    }

    /// The order of BN254's groups: a public input is below it.
    uint256 private constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    PresentationVerifier public immutable verifier;
    /// For how many seconds a root counts after it was replaced.
    uint256 public immutable issuersWindow;
    uint256 public immutable revocationWindow;

    /// Who replaces the roots, and to whom that role has been offered.
    address public authority;
    address public authorityOffered;

    /// Roots of accepted issuers and of revocation, by index; the last is the current one.
    Root[] public issuers;
    Root[] public revocations;

    /// When a request closes, in Unix seconds, by verifier and request; 0 if it is not open.
    mapping(address verifier => mapping(uint256 request => uint256 closes)) public requests;
    /// Nullifiers that have been presented.
    mapping(uint256 nullifier => bool) public nullifiers;
    /// 160 bits next value of the chain, 16 uses left, 40 expiry, 40 index of the revocation root that it
    /// was proved against. By `recordKey`.
    mapping(bytes32 key => uint256 slot) public records;

    event AuthorityOffered(address indexed to);
    event AuthorityTaken(address indexed by);
    event IssuersReplaced(uint256 indexed index, uint256 root);
    event RevocationReplaced(uint256 indexed index, uint256 root);
    event RequestOpened(address indexed verifier, uint256 indexed request, uint256 closes);
    event RequestClosed(address indexed verifier, uint256 indexed request);
    event Presented(
        address indexed verifier, uint256 indexed request, uint256 indexed grant, address sender, uint256 nullifier
    );
    event Reused(address indexed verifier, uint256 indexed grant, uint256 usesLeft);

    /// The verifier is not a contract.
    error NoVerifier();
    /// The authority cannot be nobody: there would be no other ever after.
    error NoAuthority();
    error NotAuthority(address caller);
    error NotOffered(address caller);
    /// A root or request that is no field element.
    error NotInField(uint256 value);
    /// A time that has passed already.
    error InThePast(uint256 time);
    /// No such root yet.
    error UnknownRoot(uint256 index);
    /// The root was replaced, and its window is over.
    error StaleRoot(uint256 index, uint256 replaced);
    error RequestNotOpen(address verifier, uint256 request);
    error GrantExpired(uint256 expiry);
    error NullifierUsed(uint256 nullifier);
    /// The grant was presented before. A second time would begin its chain anew.
    error GrantUsed(uint256 grant);
    error ProofRefused();
    /// There is no presentation of this grant by this sender to this verifier for this request.
    error NotPresented(uint256 grant);
    error NoUsesLeft(uint256 grant);
    error WrongPreimage(uint160 preimage);

    constructor(
        PresentationVerifier verifier_,
        address authority_,
        uint256 issuersRoot,
        uint256 revocationRoot,
        uint256 issuersWindow_,
        uint256 revocationWindow_
    ) {
        if (address(verifier_).code.length == 0) revert NoVerifier();
        if (authority_ == address(0)) revert NoAuthority();
        verifier = verifier_;
        issuersWindow = issuersWindow_;
        revocationWindow = revocationWindow_;
        authority = authority_;
        emit AuthorityTaken(authority_);
        emit IssuersReplaced(append(issuers, issuersRoot), issuersRoot);
        emit RevocationReplaced(append(revocations, revocationRoot), revocationRoot);
    }

    // The authority

    /// Offers the role; nobody, to take an offer back. The present authority stays until it is taken.
    function offerAuthority(address to) external {
        requireAuthority();
        authorityOffered = to;
        emit AuthorityOffered(to);
    }

    /// Takes the role. That the new key can sign is thereby shown before the old one lets go.
    function takeAuthority() external {
        if (msg.sender != authorityOffered) revert NotOffered(msg.sender);
        authority = msg.sender;
        authorityOffered = address(0);
        emit AuthorityTaken(msg.sender);
    }

    /// Replaces the root of accepted issuers. Recorded presentations are bound to the revocation root alone: to
    /// end those of an issuer that is left out, replace that one too, by itself if need be.
    function replaceIssuers(uint256 root) external {
        requireAuthority();
        emit IssuersReplaced(append(issuers, root), root);
    }

    /// Replaces the revocation root. The same value again is a new root: what was proved against the old one
    /// counts until its window is over.
    function replaceRevocation(uint256 root) external {
        requireAuthority();
        emit RevocationReplaced(append(revocations, root), root);
    }

    // Verifiers

    /// Opens a request of the caller's until a time. Let it close no later than the `valid_through`
    /// that the request asks for: that is hashed in it, and not seen here.
    function openRequest(uint256 request, uint256 closes) external {
        if (request >= R) revert NotInField(request);
        if (closes <= block.timestamp) revert InThePast(closes);
        requests[msg.sender][request] = closes;
        emit RequestOpened(msg.sender, request, closes);
    }

    /// Closes a request of the caller's: no presentation and no reuse after it.
    function closeRequest(uint256 request) external {
        delete requests[msg.sender][request];
        emit RequestClosed(msg.sender, request);
    }

    // Senders

    /// Records a presentation: its first use, and leave for as many more as the grant says.
    function present(
        Proof calldata proof,
        Grant calldata granted,
        uint256 nullifier,
        uint256 issuersIndex,
        uint256 revocationIndex
    ) external {
        requireOpen(granted.verifier, granted.request);
        if (block.timestamp >= granted.expiry) revert GrantExpired(granted.expiry);
        requireLive(issuers, issuersIndex, issuersWindow);
        requireLive(revocations, revocationIndex, revocationWindow);
        if (nullifiers[nullifier]) revert NullifierUsed(nullifier);
        uint256 grant = grantOf(msg.sender, granted);
        bytes32 key = recordKey(msg.sender, granted.verifier, granted.request, grant);
        if (records[key] != 0) revert GrantUsed(grant);
        uint256[5] memory inputs = [
            issuers[issuersIndex].value, revocations[revocationIndex].value, granted.request, nullifier, grant
        ];
        if (!verifier.verifyProof(proof.a, proof.b, proof.c, inputs)) revert ProofRefused();

        nullifiers[nullifier] = true;
        // 40 bits hold the index: roots are replaced one by one.
        records[key] = uint256(granted.tip) << 96 | uint256(granted.uses) << 80 | uint256(granted.expiry) << 40
            | revocationIndex;
        emit Presented(granted.verifier, granted.request, grant, msg.sender, nullifier);
    }

    /// Uses a recorded presentation once more. The preimage of the recorded value is the holder's
    /// authorisation, and takes its place. Says how many uses are left; the first reuse is the one after
    /// which `uses - 1` are.
    function reuse(uint256 grant, address to, uint256 request, uint160 preimage) external returns (uint256 usesLeft) {
        bytes32 key = recordKey(msg.sender, to, request, grant);
        uint256 slot = records[key];
        if (slot == 0) revert NotPresented(grant);
        usesLeft = uint16(slot >> 80);
        if (usesLeft == 0) revert NoUsesLeft(grant);
        if (link(preimage) != slot >> 96) revert WrongPreimage(preimage);
        uint256 expiry = uint40(slot >> 40);
        if (block.timestamp >= expiry) revert GrantExpired(expiry);
        requireLive(revocations, uint40(slot), revocationWindow);
        requireOpen(to, request);

        --usesLeft;
        records[key] = uint256(preimage) << 96 | usesLeft << 80 | uint80(slot);
        emit Reused(to, grant, usesLeft);
    }

    // What others compute too

    /// The public input that binds a proof to a registry, a sender and what the holder has granted.
    function grantOf(address sender, Grant calldata granted) public view returns (uint256) {
        bytes32 domain = keccak256(abi.encode("caldera state registry v1", block.chainid, address(this)));
        return uint256(
            keccak256(
                abi.encode(
                    domain,
                    granted.verifier,
                    sender,
                    granted.request,
                    granted.tip,
                    granted.uses,
                    granted.expiry,
                    granted.challenge
                )
            )
        ) >> 8;
    }

    /// Where a presentation is recorded.
    function recordKey(address sender, address to, uint256 request, uint256 grant) public pure returns (bytes32) {
        return keccak256(abi.encode(sender, to, request, grant));
    }

    /// The index of the current root of accepted issuers, and of revocation.
    function current() external view returns (uint256 issuersIndex, uint256 revocationIndex) {
        return (issuers.length - 1, revocations.length - 1);
    }

    // Within

    /// One step of a chain: the first 20 bytes of the hash of 20 bytes.
    function link(uint160 preimage) private pure returns (uint256) {
        return uint256(keccak256(abi.encodePacked(preimage))) >> 96;
    }

    function append(Root[] storage roots, uint256 value) private returns (uint256 index) {
        if (value >= R) revert NotInField(value);
        index = roots.length;
        if (index > 0) roots[index - 1].replaced = block.timestamp;
        roots.push(Root(value, 0));
    }

    function requireAuthority() private view {
        if (msg.sender != authority) revert NotAuthority(msg.sender);
    }

    function requireOpen(address to, uint256 request) private view {
        if (block.timestamp >= requests[to][request]) revert RequestNotOpen(to, request);
    }

    /// The root is the current one or was replaced less than `window` ago.
    function requireLive(Root[] storage roots, uint256 index, uint256 window) private view {
        uint256 count = roots.length;
        if (index >= count) revert UnknownRoot(index);
        if (index == count - 1) return;
        uint256 replaced = roots[index].replaced;
        if (block.timestamp - replaced >= window) revert StaleRoot(index, replaced);
    }
}
