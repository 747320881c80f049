// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

// What `caldera export solidity --library` makes for the key of presentations.
import {Groth16Library} from "./Groth16Library.sol";

/// Counts trusted state units: a presentation is proved once, and used again by revealing the
/// next preimage of a hash chain that the proof is bound to. docs/contracts.md says who may call
/// what, docs/state-units.md what a unit is.
///
/// Whoever calls `present` or `reuse` is the sender that the holder has named in the grant, so
/// what is seen in flight (a proof, a preimage) is of no use to anybody else. No contract is called:
/// the verifier is compiled in, and its precompiles are called statically, so nothing can come back in.
///
/// A new slot is the dearest thing that a presentation pays for after its pairing, so it pays for one: a
/// hash of all that is recorded, by the nullifier that was presented. Who reuses says again what is
/// recorded. That the grant cannot be presented under another nullifier needs no slot either, for the
/// grant's hash has the nullifier in it.
contract StateRegistry {
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
        /// The value, below 2^254, then KNOWN, then whether it has been replaced: one read tells whether it is
        /// the current one.
        uint256 word;
        /// When it was replaced; 0 if it has not been.
        uint256 replaced;
    }

    /// Roots by index; the last is the current one. No array, whose length would be read each time.
    struct Roots {
        uint256 count;
        mapping(uint256 index => Root) byIndex;
    }

    /// The order of BN254's groups: a public input is below it.
    uint256 private constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    uint256 private constant KNOWN = 2;
    uint256 private constant REPLACED = 1;
    /// One use, where a state counts those that are left.
    uint256 private constant USE = 1 << 80;

    /// For how many seconds a root counts after it was replaced.
    uint256 public immutable issuersWindow;
    uint256 public immutable revocationWindow;

    /// Who replaces the roots, and to whom that role has been offered.
    address public authority;
    address public authorityOffered;
    /// Keys of issuers that may replace the revocation root beside the authority.
    mapping(address issuer => bool may) public revokers;

    /// Of accepted issuers and of revocation.
    Roots private issuersRoots;
    Roots private revocationRoots;

    /// When a request closes, in Unix seconds, by verifier and request; 0 if it is not open.
    mapping(address verifier => mapping(uint256 request => uint256 closes)) public requests;
    /// What is recorded of a presentation: `recordOf`; 0 while the nullifier has not been presented.
    mapping(uint256 nullifier => bytes32 record) public records;

    event AuthorityOffered(address indexed to);
    event AuthorityTaken(address indexed by);
    event RevokerSet(address indexed issuer, bool may);
    event IssuersReplaced(uint256 indexed index, uint256 root);
    event RevocationReplaced(uint256 indexed index, uint256 root);
    event RequestOpened(address indexed verifier, uint256 indexed request, uint256 closes);
    event RequestClosed(address indexed verifier, uint256 indexed request);
    event Presented(
        address indexed verifier, uint256 indexed request, uint256 indexed nullifier, address sender, uint256 grant
    );
    event Reused(address indexed verifier, uint256 indexed nullifier, uint256 usesLeft);

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
    error ProofRefused();
    error NotPresented(uint256 nullifier);
    /// Not what is recorded: another sender, verifier, request, state, or not the preimage of the chain's value.
    error NotAsRecorded(uint256 nullifier);
    error NoUsesLeft(uint256 nullifier);

    constructor(
        address authority_,
        uint256 issuersRoot,
        uint256 revocationRoot,
        uint256 issuersWindow_,
        uint256 revocationWindow_
    ) {
        if (authority_ == address(0)) revert NoAuthority();
        issuersWindow = issuersWindow_;
        revocationWindow = revocationWindow_;
        authority = authority_;
        emit AuthorityTaken(authority_);
        emit IssuersReplaced(append(issuersRoots, issuersRoot), issuersRoot);
        emit RevocationReplaced(append(revocationRoots, revocationRoot), revocationRoot);
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
        emit IssuersReplaced(append(issuersRoots, root), root);
    }

    /// Lets an issuer's key replace the revocation root, or not any more: who revokes a unit need not wait for the authority.
    /// There is one root for all issuers, so the key is trusted with all of it. It is the authority's to take that back, and to
    /// replace the root that it would not have had.
    function setRevoker(address issuer, bool may) external {
        requireAuthority();
        revokers[issuer] = may;
        emit RevokerSet(issuer, may);
    }

    /// Replaces the revocation root, by the authority or an issuer that it lets. The same value again is a new
    /// root: what was proved against the old one counts until its window is over.
    function replaceRevocation(uint256 root) external {
        if (msg.sender != authority && !revokers[msg.sender]) revert NotAuthority(msg.sender);
        emit RevocationReplaced(append(revocationRoots, root), root);
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

    /// Records a presentation: its first use, and leave for as many more as the grant says. The proof is A, B, C
    /// in the order of EIP-197.
    function present(
        uint256[8] calldata proof,
        Grant calldata granted,
        uint256 nullifier,
        uint256 issuersIndex,
        uint256 revocationIndex
    ) external {
        requireOpen(granted.verifier, granted.request);
        if (block.timestamp >= granted.expiry) revert GrantExpired(granted.expiry);
        if (records[nullifier] != 0) revert NullifierUsed(nullifier);
        uint256 grant = grantOf(msg.sender, granted, nullifier);
        uint256[5] memory inputs = [
            live(issuersRoots, issuersIndex, issuersWindow),
            live(revocationRoots, revocationIndex, revocationWindow),
            granted.request,
            nullifier,
            grant
        ];
        if (!Groth16Library.holds(proof, inputs)) revert ProofRefused();

        // 40 bits hold the index: roots are replaced one by one.
        uint256 state = uint256(granted.tip) << 96 | uint256(granted.uses) << 80 | uint256(granted.expiry) << 40
            | revocationIndex;
        records[nullifier] = recordOf(msg.sender, granted.verifier, granted.request, state);
        emit Presented(granted.verifier, granted.request, nullifier, msg.sender, grant);
    }

    /// Uses a recorded presentation once more. `shown` is its recorded state with the preimage of the chain's
    /// value in the place of that value: the holder's authorisation. Says how many uses are left; the first reuse
    /// is the one after which `uses - 1` are.
    function reuse(uint256 nullifier, address to, uint256 request, uint256 shown) external returns (uint256 usesLeft) {
        bytes32 record = records[nullifier];
        if (record == 0) revert NotPresented(nullifier);
        uint256 state = link(shown >> 96) << 96 | uint96(shown);
        if (recordOf(msg.sender, to, request, state) != record) revert NotAsRecorded(nullifier);
        usesLeft = uint16(shown >> 80);
        if (usesLeft == 0) revert NoUsesLeft(nullifier);
        uint256 expiry = uint40(shown >> 40);
        if (block.timestamp >= expiry) revert GrantExpired(expiry);
        live(revocationRoots, uint40(shown), revocationWindow);
        requireOpen(to, request);

        --usesLeft;
        records[nullifier] = recordOf(msg.sender, to, request, shown - USE);
        emit Reused(to, nullifier, usesLeft);
    }

    // What others compute too

    /// The public input that binds a proof to a registry, a sender, what the holder has granted and the
    /// nullifier that it is granted for.
    function grantOf(address sender, Grant calldata granted, uint256 nullifier) public view returns (uint256) {
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
                    granted.challenge,
                    nullifier
                )
            )
        ) >> 8;
    }

    /// What is recorded of a presentation. Its state: 160 bits value of the chain, 16 uses left, 40 expiry, 40
    /// index of the revocation root that it was proved against.
    function recordOf(address sender, address to, uint256 request, uint256 state) public pure returns (bytes32) {
        return keccak256(abi.encode(sender, to, request, state));
    }

    /// The index of the current root of accepted issuers, and of revocation.
    function current() external view returns (uint256 issuersIndex, uint256 revocationIndex) {
        return (issuersRoots.count - 1, revocationRoots.count - 1);
    }

    /// A root of accepted issuers, and when it was replaced: 0 if it has not been.
    function issuers(uint256 index) external view returns (uint256 value, uint256 replaced) {
        return rootOf(issuersRoots, index);
    }

    /// A root of revocation, and when it was replaced: 0 if it has not been.
    function revocations(uint256 index) external view returns (uint256 value, uint256 replaced) {
        return rootOf(revocationRoots, index);
    }

    // Within

    /// One step of a chain: the first 20 bytes of the hash of 20 bytes.
    function link(uint256 preimage) private pure returns (uint256) {
        return uint256(keccak256(abi.encodePacked(uint160(preimage)))) >> 96;
    }

    function append(Roots storage roots, uint256 value) private returns (uint256 index) {
        if (value >= R) revert NotInField(value);
        index = roots.count;
        roots.count = index + 1;
        if (index > 0) {
            roots.byIndex[index - 1].word |= REPLACED;
            roots.byIndex[index - 1].replaced = block.timestamp;
        }
        roots.byIndex[index].word = value << 2 | KNOWN;
    }

    function rootOf(Roots storage roots, uint256 index) private view returns (uint256 value, uint256 replaced) {
        Root storage root = roots.byIndex[index];
        if (root.word == 0) revert UnknownRoot(index);
        return (root.word >> 2, root.replaced);
    }

    function requireAuthority() private view {
        if (msg.sender != authority) revert NotAuthority(msg.sender);
    }

    function requireOpen(address to, uint256 request) private view {
        if (block.timestamp >= requests[to][request]) revert RequestNotOpen(to, request);
    }

    /// The value of a root that is the current one or was replaced less than `window` ago.
    function live(Roots storage roots, uint256 index, uint256 window) private view returns (uint256 value) {
        uint256 word = roots.byIndex[index].word;
        if (word == 0) revert UnknownRoot(index);
        if (word & REPLACED != 0) {
            uint256 replaced = roots.byIndex[index].replaced;
            if (block.timestamp - replaced >= window) revert StaleRoot(index, replaced);
        }
        return word >> 2;
    }
}
