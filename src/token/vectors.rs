//! Public keys and tokens with `{"sub":"1"}`, of each algorithm; nobody has their private keys.

/// RSA, P-256, P-384, Ed25519.
pub(super) const PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1uXRVhsFyZg5eV50uhA9\n\
ZizXbqEcbSS03qUYPkbX41PqZ5C7gbYWaUbY4HpYlyDt4zW99tSEtVhPN3L1eDiD\n\
RJW8WGkPSxoTKZ22zcLY59ePGX/F9JZ57nVX9L0bCwEhdks7IpYLzKJpv4ow+Tmw\n\
W+io1CWqtPEZUVDfzFCxDHfvbvIscMhBxh5QA/Dhe7W37ufK2AJtc8BXXVDixqwx\n\
PyKpBWYOjJIc9cnKVZ+aF/QsRjygGQS8YHJKrFc3w8rolBMEXJnZIPAha2LA++4p\n\
Vk9gLQ+h0oAXKaMuM3Bn2p/ry19AMqNxM+RzspMZ5bHiJV+cz00PgOa0sLeMtcaK\n\
KQIDAQAB\n\
-----END PUBLIC KEY-----\n\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvjR0yZY0RGtJWUsL8Umv59E8BaNd\n\
0WNUXcPe1vutHh68O7nWzUCYfOzurl+TLQAAhcKMDLq3AlpAhtRgPYyZPw==\n\
-----END PUBLIC KEY-----\n\
-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEVDeuXyVA27NOYq4ErI+MFI2/JgVu729E\n\
RhkgQaCw7d/nkOYqfdd0agCm/3EldVj4+br2bP9NWJzwCAN4DogUeiIgGxjKo91X\n\
wCO9qn8eE86RtwRWh7EUaPiPhG+bb0D/\n\
-----END PUBLIC KEY-----\n\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEA8pEz1hM90JMeRifW426E5ArtheeDfq0Ouny0jda/+T0=\n\
-----END PUBLIC KEY-----\n\
";

/// The same, with two that are passed over.
pub(super) const JWKS: &str = r#"{
 "keys": [
  {
   "kty": "RSA",
   "kid": "r",
   "use": "sig",
   "n": "1uXRVhsFyZg5eV50uhA9ZizXbqEcbSS03qUYPkbX41PqZ5C7gbYWaUbY4HpYlyDt4zW99tSEtVhPN3L1eDiDRJW8WGkPSxoTKZ22zcLY59ePGX_F9JZ57nVX9L0bCwEhdks7IpYLzKJpv4ow-TmwW-io1CWqtPEZUVDfzFCxDHfvbvIscMhBxh5QA_Dhe7W37ufK2AJtc8BXXVDixqwxPyKpBWYOjJIc9cnKVZ-aF_QsRjygGQS8YHJKrFc3w8rolBMEXJnZIPAha2LA--4pVk9gLQ-h0oAXKaMuM3Bn2p_ry19AMqNxM-RzspMZ5bHiJV-cz00PgOa0sLeMtcaKKQ",
   "e": "AQAB"
  },
  {
   "kty": "EC",
   "kid": "p",
   "crv": "P-256",
   "alg": "ES256",
   "x": "vjR0yZY0RGtJWUsL8Umv59E8BaNd0WNUXcPe1vutHh4",
   "y": "vDu51s1AmHzs7q5fky0AAIXCjAy6twJaQIbUYD2MmT8"
  },
  {
   "kty": "EC",
   "kid": "q",
   "crv": "P-384",
   "x": "VDeuXyVA27NOYq4ErI-MFI2_JgVu729ERhkgQaCw7d_nkOYqfdd0agCm_3EldVj4",
   "y": "-br2bP9NWJzwCAN4DogUeiIgGxjKo91XwCO9qn8eE86RtwRWh7EUaPiPhG-bb0D_"
  },
  {
   "kty": "OKP",
   "kid": "d",
   "crv": "Ed25519",
   "x": "8pEz1hM90JMeRifW426E5ArtheeDfq0Ouny0jda_-T0"
  },
  {
   "kty": "oct",
   "k": "AAAA"
  },
  {
   "kty": "EC",
   "crv": "P-521"
  }
 ]
}"#;

/// Algorithms, and a token of each.
pub(super) const TOKENS: [(&str, &str); 9] = [
    (
        "RS256",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.wFr9hthpm0YMzF0ah7VEGAPdYHKAj-tKolLYddG7gLftMfrNr86\
         pS-oZNXBRuAbsEusnn4lFyypfdIHivcf9jS1bhS1Aoa-0yJf3QOdtd9U1WYd5WjFOI7fUciiVP1vcioLNdA5ZQth\
         wvWomtDP45recivOpabuCltj1ACcJPUb2THdIP-RacMrK2ckpxva5oWCIDDQG2MlWNYGr_7fU9bZCb9CL1qXAgCT\
         3tl4KDkG4YBcVtxosAuNl-Dylgg_OpOR3KNTX2VmZmUKv3eB8xE6tTItKjKx8Erin4X_KS84Bt9M3uHwjVnC0Kzz\
         GC9lyehHxTn45taZ4ZKzpKWIUeQ",
    ),
    (
        "RS384",
        "eyJhbGciOiJSUzM4NCJ9.eyJzdWIiOiIxIn0.1DoW7a3KtrTyU5tRLL82acuZib-OenQ1VC2O2aWtaMlM6VAwk1r\
         wg9ULvVwL_98IEeGzdbymIWtqm_z-Y7zLYvBd4n1dH1Jsju2Lhi-sDK4M2Ph3MOltogcN7RNc2IHJ6GTZf0eHmB0\
         iTngSn7uxXH9jJFJlYJTB5mj9L8Mim-RcBNPmYi8EQKBdS-mbCN-l2n2l5CQVde2X7SbX9moliB8Dw5YdUBAPftj\
         PvJWJqikuyV0sTWWHUn8GNCKgmvhBYRDovzwFK2oMQGwhm-Ew_lnQhVshSK6_-we_JgIGZLmf9J3zGzJ9bBjh6VQ\
         fKsjFH_i42TxqOgFlTmWE0nuWFQ",
    ),
    (
        "RS512",
        "eyJhbGciOiJSUzUxMiJ9.eyJzdWIiOiIxIn0.YpFZK0rFUQPbza4pbx9QrlPasE4DEbDy_7Zm2rQxJdw2k3Vs6fn\
         oeDCk2ExucvFLJj9ly2G9mcx1Xr3fKxplUZI0sBML5mX1OKZJuTv6LkMf7dUTxax0TqoFvUzR5jxCGC862zasdZU\
         rilHrRe5fMVQQWtw5ZAkOn84ZwbFrdXOPadTub34WAuItyHyY1caiq6q9lBYaTV-pboTg4Ig0i1dZZiUIL9Pd2DM\
         6QpBdixmyV24sR47L8Z-nSkzEs1ZI3XfkAh_LxsB5ogEMR--IWsAoeBsQ5D5bdZn30XxB0-58v1Q7vhzojdibr1G\
         ZpFi3DPb6OLfSkGoDeX9d45RC1w",
    ),
    (
        "PS256",
        "eyJhbGciOiJQUzI1NiJ9.eyJzdWIiOiIxIn0.UnIBUsadYPFlyxTds8mnTDjsDuEO__RKQhycfDlQXRzyiElV_de\
         Rmq7NNIZxolC2jWmbR8Q9fDXF5fxlHsB-WpkbhfddSSTVtuW4g8E1crdrlysg83tywULIeOby5P6MtgcJLrhZ74C\
         xpXHtquVWIGFTuxT5bgyFiwdowMCwlUSP3cYSc0iVbePD7gSm7RSxd2tPiBDip-x3j-y80uyUQOobgcJn8X9XEYF\
         jQqXMV4-a8uSrpXKSf0Smn_DtkSKO-oAt-_vfBMfLg6rRZc0_Pq786sdV-pLKuY8v9FxukUDSIIiRm2zITcPtrVU\
         5TkX12KUhc_qi0LbuEGYkBNXXIQ",
    ),
    (
        "PS384",
        "eyJhbGciOiJQUzM4NCJ9.eyJzdWIiOiIxIn0.hZWFeuyBTDMcdcb7JR1HaQG9aW9Fz87KkQCCsNH0hjVbnMGehOV\
         ESvjtCXOaj9GPnI3hQ96vOG-L2Q-qiErNZGVZZawAKhY8sgpwqc96xVPkbWQJn41iuYKua4za3kwef8cVxJzJwD9\
         sJTs6iCIO1xe7FsYevOAyeJQTzCO4c21-CcUwvc5umm051RD1AiVlgLovW3qsnhK_ipQbgpQmyvfWa94qlSy--rd\
         JGZs1sAWmv0z1SZXVf4IBg6bkK0vCXMHBzwF6wIG6EDuL8sM_2wzQeE5UqmM1tIWmRyf5Gt2MgN1PM_KlgZcdjgq\
         f-kjvvJ8RtOglWrsMxZkkbEJm0Q",
    ),
    (
        "PS512",
        "eyJhbGciOiJQUzUxMiJ9.eyJzdWIiOiIxIn0.u8u47ZW8AW8UIS18X6iFxG23LJKzmHKKn8y19ztSdg2CIFD7tMT\
         _m6S9n8n_74pblzu_mR0grVWg24dgAxQ8fI_jL2eb75v0yYLNkJvNnKhFMcjYsrXkdBxGyFDfCvBHveKW7hFHkwq\
         eibxSf3TuRAK2qaUEyoNSJyX_8T7eyuaC1XdnRxnrBCLStOzz2Y78NjQemOC5i75bw_6eLqWUzQ00VNdkWLjzmUq\
         2P1pIfFAy4U7D5u5s_6M6_CgCOY-z3txOfb87j9Le8lbdRUG4zJbODpRB02JDJmlvvmv56JGC-efYzSK7Ir6bdQZ\
         MMBS5X-aEHf9odExbUL-At6MWRw",
    ),
    (
        "ES256",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.wuilnVVkja1Axb-sQXvlbxzF59ZusDW2qZ0b-NJgXU6KdlgIAXG\
         d5jC4eoPuDb7pGnJzq_JfgYkwuL7culDVdA",
    ),
    (
        "ES384",
        "eyJhbGciOiJFUzM4NCJ9.eyJzdWIiOiIxIn0.brhYZdVGl8MCDfo6pEe2I3Ve7AChyWnMbXS8i5bwHjz9bsYFi8r\
         snsQPMb-7mCn_f2_NdI-jgEBBeHLgN9JZWXq8feoYccfgXNu3ICSIPSx0xtWr5Ddrls5LeB_IOYHD",
    ),
    (
        "EdDSA",
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.odnm4YEMJ1jEisP_57wp1SmM83izI7Cuzan-g3oJeFTA3L6oTQg\
         I5m0CnUtsyQkPJOY7wD2tegheY_W_91MyBA",
    ),
];

/// ES256 with the right `kid`, with another key's, and with a `crit`.
pub(super) const BY_NAME: [&str; 3] = [
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InAifQ.eyJzdWIiOiIxIn0.4zj493aZ7p1JNzzfjU9gqSaZ6c3gHN8V4z0j6\
     a45UrkePl7AM2w9vi1wTzuRGYM40ezO-JOA-NGyufqxrksVeQ",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InEifQ.eyJzdWIiOiIxIn0.uKHogYHnh4S5ZBmkgNYAQPnBacfhuH0plN_eD\
     8aqdznPbyI0cJSts700P8sakqlsmemtZTBNBcpTiEBfAzNChA",
    "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsiZXhwIl0sImV4cCI6MX0.eyJzdWIiOiIxIn0.j4kkimSPKwrbqnMbTM22\
     o2wrpRiCD7GHJf_olnUmdFvvTKEQMUT5icEt78NiS0WY9Dfg5Fjoz_rgK3ELKDkLlQ",
];
