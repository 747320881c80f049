// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

interface Token {
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
}

/// Pays the ledger's epochs: for each a Merkle root over who gets how much, and the sum, which is
/// taken from the publisher when the root is published. A claim is paid once, to the party that the
/// leaf names, whoever brings it and however late: claims do not lapse.
///
/// The tree is that of docs/ledger.md. A leaf is keccak256(keccak256(index, account, amount)); a node
/// is the hash of its two children, the smaller first. A leaf hashes 32 bytes and a node 64, so an inner
/// node cannot be passed off as a leaf, which a single hash of as many bytes as two nodes have would
/// allow.
///
/// A wrong root cannot touch the money of another epoch: what an epoch pays is bounded by its sum.
contract EraDistributor {
    struct Epoch {
        bytes32 root;
        uint128 total;
        uint128 claimed;
    }

    Token public immutable token;

    /// Who publishes epochs, and to whom that role has been offered.
    address public publisher;
    address public publisherOffered;

    mapping(uint256 epoch => Epoch) public epochs;
    /// A bit for each index, 256 to a word.
    mapping(uint256 epoch => mapping(uint256 word => uint256 bits)) private claims;

    event PublisherOffered(address indexed to);
    event PublisherTaken(address indexed by);
    event Published(uint256 indexed epoch, bytes32 root, uint128 total);
    event Claimed(uint256 indexed epoch, uint256 index, address indexed account, uint128 amount);

    error NotPublisher(address caller);
    error NoPublisher();
    error NotOffered(address caller);
    error AlreadyPublished(uint256 epoch);
    /// A root of nothing.
    error EmptyEpoch(uint256 epoch);
    error NotPublished(uint256 epoch);
    error AlreadyClaimed(uint256 epoch, uint256 index);
    /// The path does not lead from this leaf to the epoch's root.
    error NotInTree(uint256 epoch, uint256 index);
    /// The root promises more than the epoch's sum.
    error EpochOverdrawn(uint256 epoch, uint128 total, uint256 claimed);
    error TransferFailed();

    constructor(Token token_, address publisher_) {
        if (publisher_ == address(0)) revert NoPublisher();
        token = token_;
        publisher = publisher_;
        emit PublisherTaken(publisher_);
    }

    /// Offers the role; nobody, to take an offer back.
    function offerPublisher(address to) external {
        if (msg.sender != publisher) revert NotPublisher(msg.sender);
        publisherOffered = to;
        emit PublisherOffered(to);
    }

    function takePublisher() external {
        if (msg.sender != publisherOffered) revert NotOffered(msg.sender);
        publisher = msg.sender;
        publisherOffered = address(0);
        emit PublisherTaken(msg.sender);
    }

    /// Publishes an epoch, once, and takes its sum from the publisher, who has approved it.
    function publish(uint256 epoch, bytes32 root, uint128 total) external {
        if (msg.sender != publisher) revert NotPublisher(msg.sender);
        if (root == 0 || total == 0) revert EmptyEpoch(epoch);
        if (epochs[epoch].root != 0) revert AlreadyPublished(epoch);
        epochs[epoch] = Epoch(root, total, 0);
        emit Published(epoch, root, total);
        if (!token.transferFrom(msg.sender, address(this), total)) revert TransferFailed();
    }

    /// Pays leaf `index` of an epoch to the account that it names. All is written down before the token
    /// is called.
    function claim(uint256 epoch, uint256 index, address account, uint128 amount, bytes32[] calldata path) external {
        Epoch memory found = epochs[epoch];
        if (found.root == 0) revert NotPublished(epoch);
        uint256 word = claims[epoch][index >> 8];
        uint256 bit = 1 << (index & 0xff);
        if (word & bit != 0) revert AlreadyClaimed(epoch, index);
        bytes32 node = keccak256(bytes.concat(keccak256(abi.encode(index, account, uint256(amount)))));
        for (uint256 i = 0; i < path.length; ++i) {
            node = pair(node, path[i]);
        }
        if (node != found.root) revert NotInTree(epoch, index);
        // The sum of two numbers of 128 bits, not of 256: it cannot wrap.
        uint256 claimed = uint256(found.claimed) + amount;
        if (claimed > found.total) revert EpochOverdrawn(epoch, found.total, claimed);

        claims[epoch][index >> 8] = word | bit;
        epochs[epoch].claimed = uint128(claimed);
        emit Claimed(epoch, index, account, amount);
        if (!token.transfer(account, amount)) revert TransferFailed();
    }

    /// Whether a leaf of an epoch has been paid.
    function isClaimed(uint256 epoch, uint256 index) external view returns (bool) {
        return claims[epoch][index >> 8] & (1 << (index & 0xff)) != 0;
    }

    /// Hashed in the scratch space: the general encoding costs three times as much at each level.
    function pair(bytes32 a, bytes32 b) private pure returns (bytes32 node) {
        (bytes32 first, bytes32 second) = a < b ? (a, b) : (b, a);
        assembly ("memory-safe") {
            mstore(0x00, first)
            mstore(0x20, second)
            node := keccak256(0x00, 0x40)
        }
    }
}
