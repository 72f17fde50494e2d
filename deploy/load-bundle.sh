#!/bin/sh
# Copies a fitted bundle to the claim of the bundles, into a folder called by its hash, and prints the folder's name:
#
#   deploy/load-bundle.sh bundles/digits NAMESPACE          for the Deployment guardhouse
#   deploy/load-bundle.sh bundles/digits NAMESPACE canary   for guardhouse-canary
#
# The gateway's pod must be there, running or waiting: the loader goes to its node. Bundles that are there stay.
set -eu

bundle=$1 namespace=$2 suffix=${3:+-$3}
cd "$(dirname "$0")"
case $bundle in /*) ;; *) bundle=$OLDPWD/$bundle ;; esac
test -f "$bundle/manifest.json" || { echo "$bundle: no bundle there; make one with \`guardhouse fit\`" >&2; exit 2; }
# As the last line of `guardhouse fit` has it, in its first twelve digits.
name=sha256-$({ sha256sum "$bundle/manifest.json" 2>/dev/null || shasum -a 256 "$bundle/manifest.json"; } | cut -c1-12)

kubectl() { command kubectl --namespace "$namespace" "$@" >&2; }
trap 'kubectl delete pod guardhouse-loader --ignore-not-found --wait' EXIT
sed "s/claimName: guardhouse-bundles/&$suffix/; s/instance: guardhouse$/&$suffix/" loader.yaml | kubectl apply -f -
kubectl wait --for=condition=Ready --timeout=300s pod/guardhouse-loader
kubectl exec guardhouse-loader -- mkdir -p "/bundles/$name"
kubectl cp "$bundle/." "guardhouse-loader:/bundles/$name"
echo "$name"
