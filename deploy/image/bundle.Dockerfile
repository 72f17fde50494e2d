# A bundle as an image: `docker build -f deploy/image/bundle.Dockerfile BUNDLE`. Nothing in it can be run; every file can be
# read by the user that the manifests give the gateway, whoever has fitted the bundle under whatever umask.
# checkov:skip=CKV_DOCKER_2:nothing runs in it that could be unwell
FROM scratch
COPY --chown=10001:10001 --chmod=0555 . /
USER 10001:10001
