// The statement of a presentation (docs/state-units.md), a second time: in circom, from circomlib's
// own templates, without any of the savings of the circuit that is shipped. The tests compile it
// and ask both about the same inputs.
pragma circom 2.1.6;

include "circomlib/poseidon.circom";
include "circomlib/eddsaposeidon.circom";
include "circomlib/comparators.circom";
include "circomlib/bitify.circom";

// Whether leaf is in a binary tree at the place that the bits say.
template BinaryRoot(levels) {
    signal input leaf;
    signal input bits[levels];
    signal input siblings[levels];
    signal output root;
    signal node[levels + 1];
    signal left[levels];
    component hash[levels];
    node[0] <== leaf;
    for (var i = 0; i < levels; i++) {
        left[i] <== node[i] + bits[i] * (siblings[i] - node[i]);
        hash[i] = Poseidon(2);
        hash[i].inputs[0] <== left[i];
        hash[i].inputs[1] <== node[i] + siblings[i] - left[i];
        node[i + 1] <== hash[i].out;
    }
    root <== node[levels];
}

// out is in[index], for an index below n.
template Choose(n) {
    signal input in[n];
    signal input index;
    signal output out;
    component is[n];
    signal part[n];
    var sum = 0;
    var found = 0;
    for (var i = 0; i < n; i++) {
        is[i] = IsEqual();
        is[i].in[0] <== index;
        is[i].in[1] <== i;
        part[i] <== is[i].out * in[i];
        sum += part[i];
        found += is[i].out;
    }
    found === 1;
    out <== sum;
}

// A tree of eight children a node.
template WideRoot(levels) {
    signal input leaf;
    signal input index;
    signal input families[levels][8];
    signal output root;
    component bits = Num2Bits(3 * levels);
    bits.in <== index;
    component choose[levels];
    component hash[levels];
    signal node[levels + 1];
    node[0] <== leaf;
    for (var i = 0; i < levels; i++) {
        choose[i] = Choose(8);
        choose[i].index <== bits.out[3 * i] + 2 * bits.out[3 * i + 1] + 4 * bits.out[3 * i + 2];
        hash[i] = Poseidon(8);
        for (var child = 0; child < 8; child++) {
            choose[i].in[child] <== families[i][child];
            hash[i].inputs[child] <== families[i][child];
        }
        choose[i].out === node[i];
        node[i + 1] <== hash[i].out;
    }
    root <== node[levels];
}

// small <= large, both below 2^n.
template Ordered(n) {
    signal input small;
    signal input large;
    component a = Num2Bits(n);
    a.in <== small;
    component b = Num2Bits(n);
    b.in <== large;
    component is = LessEqThan(n);
    is.in[0] <== small;
    is.in[1] <== large;
    is.out === 1;
}

template Presentation() {
    signal input issuersRoot;
    signal input revocationRoot;
    signal input request;
    signal input nullifier;
    signal input grant;

    signal input tagSubject;
    signal input tagNullifier;
    signal input tagRequest;
    signal input tagUnit;
    signal input secret;
    signal input blinding;
    signal input scope;
    signal input index;
    signal input presentations;
    signal input claims[16];
    signal input selector[5];
    signal input least[4];
    signal input greatest[4];
    signal input setRoot;
    signal input setIndex;
    signal input setFamilies[3][8];
    signal input schema;
    signal input validThrough;
    signal input validUntil;
    signal input nonce;
    signal input ax;
    signal input ay;
    signal input rx;
    signal input ry;
    signal input s;
    signal input position;
    signal input siblings[16];
    signal input gapLow;
    signal input gapNext;
    signal input gapIndex;
    signal input gapFamilies[7][8];

    signal grantSquared;
    grantSquared <== grant * grant;

    component subject = Poseidon(3);
    subject.inputs[0] <== tagSubject;
    subject.inputs[1] <== secret;
    subject.inputs[2] <== blinding;

    component indices = Ordered(16);
    indices.small <== index;
    indices.large <== presentations - 1;
    component counted = Poseidon(4);
    counted.inputs[0] <== tagNullifier;
    counted.inputs[1] <== secret;
    counted.inputs[2] <== scope;
    counted.inputs[3] <== index;
    counted.out === nullifier;

    component claimsHash = Poseidon(16);
    for (var i = 0; i < 16; i++) claimsHash.inputs[i] <== claims[i];

    component asked[5];
    component lower[4];
    component upper[4];
    var selectors = 0;
    for (var slot = 0; slot < 5; slot++) {
        asked[slot] = Choose(16);
        asked[slot].index <== selector[slot];
        for (var i = 0; i < 16; i++) asked[slot].in[i] <== claims[i];
        selectors += selector[slot] * (1 << (4 * slot));
    }
    for (var slot = 0; slot < 4; slot++) {
        lower[slot] = Ordered(64);
        lower[slot].small <== least[slot];
        lower[slot].large <== asked[slot].out;
        upper[slot] = Ordered(64);
        upper[slot].small <== asked[slot].out;
        upper[slot].large <== greatest[slot];
    }

    component set = WideRoot(3);
    set.leaf <== asked[4].out;
    set.index <== setIndex;
    for (var i = 0; i < 3; i++) for (var j = 0; j < 8; j++) set.families[i][j] <== setFamilies[i][j];
    setRoot * (set.root - setRoot) === 0;

    component ask = Poseidon(15);
    ask.inputs[0] <== tagRequest;
    ask.inputs[1] <== schema;
    ask.inputs[2] <== scope;
    ask.inputs[3] <== validThrough;
    ask.inputs[4] <== presentations;
    ask.inputs[5] <== selectors;
    for (var slot = 0; slot < 4; slot++) {
        ask.inputs[6 + 2 * slot] <== least[slot];
        ask.inputs[7 + 2 * slot] <== greatest[slot];
    }
    ask.inputs[14] <== setRoot;
    ask.out === request;

    component valid = Ordered(41);
    valid.small <== validThrough;
    valid.large <== validUntil;
    component slack = Num2Bits(40);
    slack.in <== validUntil - validThrough;
    component nonceBits = Num2Bits(48);
    nonceBits.in <== nonce;
    component message = Poseidon(5);
    message.inputs[0] <== tagUnit;
    message.inputs[1] <== schema;
    message.inputs[2] <== subject.out;
    message.inputs[3] <== claimsHash.out;
    message.inputs[4] <== nonce + validUntil * (1 << 48);

    component signed = EdDSAPoseidonVerifier();
    signed.enabled <== 1;
    signed.Ax <== ax;
    signed.Ay <== ay;
    signed.R8x <== rx;
    signed.R8y <== ry;
    signed.S <== s;
    signed.M <== message.out;

    component leaf = Poseidon(3);
    leaf.inputs[0] <== ax;
    leaf.inputs[1] <== ay;
    leaf.inputs[2] <== schema;
    component positionBits = Num2Bits(16);
    positionBits.in <== position;
    component issuers = BinaryRoot(16);
    issuers.leaf <== leaf.out;
    for (var i = 0; i < 16; i++) {
        issuers.bits[i] <== positionBits.out[i];
        issuers.siblings[i] <== siblings[i];
    }
    issuers.root === issuersRoot;

    signal name;
    name <== position * (1 << 48) + nonce;
    component after = Ordered(64);
    after.small <== gapLow + 1;
    after.large <== name;
    component lowBits = Num2Bits(64);
    lowBits.in <== gapLow;
    component before = Ordered(64);
    before.small <== name + 1;
    before.large <== gapNext;
    component gaps = WideRoot(7);
    gaps.leaf <== gapLow + gapNext * (1 << 64);
    gaps.index <== gapIndex;
    for (var i = 0; i < 7; i++) for (var j = 0; j < 8; j++) gaps.families[i][j] <== gapFamilies[i][j];
    gaps.root === revocationRoot;
}

component main {public [issuersRoot, revocationRoot, request, nullifier, grant]} = Presentation();
